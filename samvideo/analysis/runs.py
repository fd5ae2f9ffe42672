"""From the folder of a run to findings: masks or, without them, the table; and pictures where there are some."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from samvideo.analysis.analyser import Analyser, Tables
from samvideo.analysis.blocks import FRAMES, Block, Clock, in_blocks, runs_of_frames
from samvideo.analysis.findings import Findings
from samvideo.analysis.pictures import PictureWatch
from samvideo.analysis.settings import Settings
from samvideo.analysis.shapes import Shapes, measure
from samvideo.io.source import open_video
from samvideo.io.tracks import TrackedFrame, TrackedObject, TracksFile, TracksTable, open_run
from samvideo.types import Frame, UInt8Array


def analyse_run(
    folder: Path, settings: Settings, *, tables: Tables | None = None, video: Path | str | None = None
) -> Findings:
    """Analyse the folder of a run: `tracks.json`, or where only that was saved, `tracks.csv`.

    Without masks there are no tips, and distances are those of the boxes.

    Args:
        folder: as `samvideo track` writes it.
        settings: see there.
        tables: where the long tables go.
        video: the source, for the statistics of its pictures; else the run's overlay is taken, if there is one.

    Raises:
        VideoError: the folder holds no run, or a broken one, or the video cannot be read.
    """
    tracks = open_run(folder)
    analyser = Analyser(tracks.info, settings, tables)
    with ExitStack() as stack:
        pictures = stack.enter_context(Pictures(folder, video)) if _has_pictures(folder, video) else None
        watch = PictureWatch()
        for frames, following in in_blocks(tracks, FRAMES):
            flags = []
            for frame in frames:
                rgb = pictures.of(frame.index) if pictures else None
                flags.append(watch.look(rgb) if rgb is not None else "")
                if rgb is not None and not flags[-1]:
                    analyser.see(rgb)
            analyser.add_block(_block(tracks, frames, following, analyser.clock, flags))
    return analyser.conclude()


def _block(
    tracks: TracksFile | TracksTable,
    frames: list[TrackedFrame],
    following: TrackedFrame | None,
    clock: Clock,
    flags: list[str],
) -> Block:
    after = None if following is None else (following.index, following.seconds)
    times = clock.times([f.index for f in frames], [f.seconds for f in frames], after)
    objects = [thing for frame in frames for thing in frame.objects]
    runs = None if isinstance(tracks, TracksTable) else runs_of_frames(frames, tracks.info.size_wh)
    shapes = _told(objects) if runs is None else measure(runs)
    return Block(
        times,
        np.array(flags, np.str_),
        np.repeat(np.arange(len(frames)), [len(frame.objects) for frame in frames]),
        np.array([thing.object_id for thing in objects], np.int64),
        np.array([thing.present for thing in objects], bool) & (shapes.area > 0),
        np.array([thing.score for thing in objects], float),
        shapes,
        runs,
    )


def _told(objects: list[TrackedObject]) -> Shapes:
    """What a table tells of shapes; it knows no direction."""
    count = len(objects)
    corners = np.array([thing.bbox_xywh for thing in objects], float).reshape(count, 4)
    corners[:, 2:] += corners[:, :2]
    centroid = np.array([thing.centroid_xy or (np.nan, np.nan) for thing in objects], float).reshape(count, 2)
    area = np.array([thing.area for thing in objects], float)
    return Shapes(area, centroid, corners, *np.full((3, count, 2), np.nan))


def _has_pictures(folder: Path, video: Path | str | None) -> bool:
    return video is not None or (folder / "overlay.mp4").is_file()


class Pictures:
    """The pictures of a run's frames: from its source by number, or from its overlay in order.

    The masks drawn into an overlay change the statistics little, and alike from frame to frame.
    """

    def __init__(self, folder: Path, video: Path | str | None) -> None:
        self._by_number = video is not None
        self._video = open_video(str(video) if video is not None else folder / "overlay.mp4")
        self._frames: Iterator[Frame] = iter(self._video)
        self._next: Frame | None = None

    def of(self, index: int) -> UInt8Array | None:
        """The picture of the next frame of the run; None where the video has none."""
        if not self._by_number:
            frame = next(self._frames, None)
            return frame.rgb if frame else None
        while self._next is None or self._next.index < index:
            self._next = next(self._frames, None)
            if self._next is None:
                return None
        return self._next.rgb if self._next.index == index else None

    def __enter__(self) -> "Pictures":
        return self

    def __exit__(self, *_: object) -> None:
        self._video.close()
