"""Analyse the folder of a run: its masks or, without them, its table; and its images if there are any."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from samvideo.analysis.analyser import Analyser
from samvideo.analysis.blocks import FRAMES, Block, FrameClock, in_batches, runs_of_frames
from samvideo.analysis.findings import Findings
from samvideo.analysis.image_faults import ImageFaultDetector
from samvideo.analysis.mask_geometry import MaskMeasurements, measure
from samvideo.analysis.settings import AnalysisSettings
from samvideo.analysis.tables import TableWriter
from samvideo.io.base import Closing
from samvideo.io.source import open_video
from samvideo.io.tracks import FrameRecord, TracksFile, TracksTable, open_run
from samvideo.types import Frame, UInt8Array


def analyse_run(
    folder: Path, settings: AnalysisSettings, *, tables: TableWriter | None = None, video: Path | str | None = None
) -> Findings:
    """Analyse `tracks.json` of a run or, if only that was saved, `tracks.csv`.

    Without masks there are no tips, and distances are those between boxes. Raises VideoError if the folder, as
    `samvideo track` writes it, holds no valid run, or the video cannot be read.

    Args:
        folder: of the run.
        settings: see `AnalysisSettings`.
        tables: writes the long tables.
        video: the source, whose images are checked for faults; by default the overlay of the run, if there is one.
    """
    tracks = open_run(folder)
    analyser = Analyser(tracks.info, settings, tables)
    with ExitStack() as stack:
        has_images = video is not None or (folder / "overlay.mp4").is_file()
        images = stack.enter_context(RunImages(folder, video)) if has_images else None
        detector = ImageFaultDetector()
        for frames, following in in_batches(tracks, FRAMES):
            flags = []
            for frame in frames:
                rgb = images.image(frame.index) if images else None
                flags.append(detector.detect(rgb) if rgb is not None else "")
                if rgb is not None and not flags[-1]:
                    analyser.keep_background(rgb)
            analyser.add_block(_block(tracks, frames, following, analyser.clock, flags))
    return analyser.finish()


def _block(
    tracks: TracksFile | TracksTable,
    frames: list[FrameRecord],
    following: FrameRecord | None,
    clock: FrameClock,
    flags: list[str],
) -> Block:
    runs = None if isinstance(tracks, TracksTable) else runs_of_frames(frames, tracks.info.size_wh)
    measurements = _measurements_of_table(frames) if runs is None else measure(runs)
    rows = [[(entry.object_id, entry.present, entry.score) for entry in frame.objects] for frame in frames]
    return Block.of(clock.times(frames, following), flags, rows, measurements, runs)


def _measurements_of_table(frames: list[FrameRecord]) -> MaskMeasurements:
    """The measurements that a table contains; the axes of the masks are unknown."""
    objects = [entry for frame in frames for entry in frame.objects]
    count = len(objects)
    corners = np.array([entry.bbox_xywh for entry in objects], float).reshape(count, 4)
    corners[:, 2:] += corners[:, :2]
    centroid = np.array([entry.centroid_xy or (np.nan, np.nan) for entry in objects], float).reshape(count, 2)
    area = np.array([entry.area for entry in objects], float)
    return MaskMeasurements(area, centroid, corners, *np.full((3, count, 2), np.nan))


class RunImages(Closing):
    """The images of the frames of a run: from its source by index, or from its overlay in order.

    The masks drawn into an overlay change the statistics of the images little, and equally on all frames.
    """

    def __init__(self, folder: Path, video: Path | str | None) -> None:
        self._by_index = video is not None
        self._video = open_video(str(video) if video is not None else folder / "overlay.mp4")
        self._frames: Iterator[Frame] = iter(self._video)
        self._next: Frame | None = None

    def image(self, index: int) -> UInt8Array | None:
        """Return the image of the next frame of the run; None if the video lacks it."""
        if not self._by_index:
            frame = next(self._frames, None)
            return frame.rgb if frame else None
        while self._next is None or self._next.index < index:
            self._next = next(self._frames, None)
            if self._next is None:
                return None
        return self._next.rgb if self._next.index == index else None

    def close(self) -> None:
        """Close the video."""
        self._video.close()
