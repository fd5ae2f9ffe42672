"""Analyse the folder of a run: its masks or, without them, its table; and its images if there are any."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from samvideo.analysis.analyser import Analyser
from samvideo.analysis.blocks import FRAMES, Block, FrameClock, in_batches, runs_of_frames
from samvideo.analysis.findings import Findings
from samvideo.analysis.image_faults import ImageFaultDetector
from samvideo.analysis.mask_geometry import MaskMeasurements, measure
from samvideo.analysis.settings import AnalysisSettings
from samvideo.analysis.tables import TableWriter
from samvideo.errors import ConfigError
from samvideo.io.base import Closing
from samvideo.io.paired import RunVideo
from samvideo.io.source import open_video
from samvideo.io.tracks import FrameRecord, TracksFile
from samvideo.io.tracks_table import TracksTable, open_run
from samvideo.types import Frame, UInt8Array


def analyse_run(
    folder: str | os.PathLike[str],
    settings: AnalysisSettings,
    *,
    tables: TableWriter | None = None,
    video: Path | str | None = None,
    first: int | None = None,
) -> Findings:
    """Analyse `tracks.json` of a run or, if only that was saved, `tracks.csv`.

    Without masks there are no tips, and distances are those between boxes. Raises VideoError if the folder, as
    `samvideo track` writes it, holds no valid run, or the video cannot be read or is another one; ConfigError if
    `first` is needed.

    Args:
        folder: of the run.
        settings: see `AnalysisSettings`.
        tables: writes the long tables.
        video: the source, whose images are checked for faults; by default the overlay of the run, if there is one.
        first: index in `video` of the first frame of the run, if the run does not know it; see `RunVideo`.
    """
    with SavedRun(folder, video, first) as run:
        return run.analyse(run.checked(settings), tables)


class SavedRun(Closing):
    """The folder of a run, opened together with its images; arguments and errors are those of `analyse_run`."""

    def __init__(
        self, folder: str | os.PathLike[str], video: Path | str | None = None, first: int | None = None
    ) -> None:
        self._tracks = open_run(folder)
        self.path = self._tracks.path
        has_images = video is not None or (Path(folder) / "overlay.mp4").is_file()
        self._images = RunImages(self._tracks, video, first) if has_images else None

    def checked(self, settings: AnalysisSettings) -> AnalysisSettings:
        """The settings with the labels of the run; ConfigError if they name an object that it does not have."""
        if named := {*settings.labels, *settings.tissue}:
            known = sorted({entry.object_id for frame in self._tracks for entry in frame.objects})
            if unknown := sorted(named.difference(known)):
                raise ConfigError(f"label or tissue is for object {unknown[0]}, but the run has only {known}")
        return replace(settings, labels={**self._tracks.labels(), **settings.labels})

    def analyse(self, settings: AnalysisSettings, tables: TableWriter | None) -> Findings:
        """Analyse all frames, once."""
        analyser, detector = Analyser(self._tracks.info, settings, tables), ImageFaultDetector()
        for frames, following in in_batches(self._tracks, FRAMES):
            flags = []
            for frame in frames:
                rgb = self._images.image(frame) if self._images else None
                flags.append(detector.detect(rgb) if rgb is not None else "")
                if rgb is not None and not flags[-1]:
                    analyser.keep_background(rgb)
            analyser.add_block(_block(self._tracks, frames, following, analyser.clock, flags))
        return analyser.finish()

    def close(self) -> None:
        """Close the video."""
        if self._images is not None:
            self._images.close()


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
    """The images of the frames of a run: from its source as `RunVideo` pairs them, or from its overlay in order.

    The masks drawn into an overlay change the statistics of the images little, and equally on all frames.
    """

    def __init__(self, run: TracksFile | TracksTable, video: Path | str | None, first: int | None) -> None:
        self._source = None if video is None else RunVideo(run, str(video), first)
        self._overlay = open_video(run.path.with_name("overlay.mp4")) if video is None else None
        self._frames: Iterator[Frame] = iter(self._overlay or ())

    def image(self, tracked: FrameRecord) -> UInt8Array | None:
        """Return the image of the next frame of the run; None if the overlay lacks it."""
        frame = self._source.frame_of(tracked) if self._source else next(self._frames, None)
        return frame.rgb if frame else None

    def close(self) -> None:
        """Close the video."""
        for video in (self._source, self._overlay):
            if video is not None:
                video.close()
