"""Frames of the source together with the masks of a run."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from samvideo.errors import ConfigError, SamVideoError, VideoError
from samvideo.io.base import Closing
from samvideo.io.sink import VideoWriter
from samvideo.io.source import open_video
from samvideo.io.thumbnails import Recognition, from_text, thumbnail
from samvideo.io.tracks import STRIPPED_NAME, FrameRecord, TracksFile
from samvideo.io.tracks_table import TracksTable
from samvideo.types import Frame

log = logging.getLogger(__name__)

CLOCK = 0.003  # seconds by which the time of a frame may differ between copies; some containers store milliseconds
REMEDY = "give the video that was tracked, or with --from the number of the frame in it where the run begins"


class RunVideo(Closing):
    """The video that was tracked, opened to get the frames of its run.

    Frames are found by their index in the source, and must have the times that the run recorded, and look like its
    thumbnails.

    Args:
        run: the frames that are asked for, in the same order.
        video: the source or a copy of it, whatever `open_video` takes.
        first: index in `video` of the first frame of the run; by default the run knows it. If it is given, `video`
            may also be a part of the source: only times relative to that frame are compared.

    Raises:
        ConfigError: the run is renumbered (see `VideoInfo`), and `first` is not given.
        VideoError: the video cannot be read, or has another size or number of frames than the one tracked.
    """

    def __init__(self, run: TracksFile | TracksTable, video: str, first: int | None = None) -> None:
        if first is None and run.info.renumbered:
            raise ConfigError(
                f"the frames of {run.path} are counted from the first one tracked (--strip-source with --start): "
                f"give the number of that frame in {video} with --from (0 for a clip that begins there)"
            )
        self._run, self._name, self._first = run, video, first
        self._begin: FrameRecord | None = None
        self._recognition = Recognition()
        self._shift = 0.0  # from seconds in the run to those in the video
        self._source = open_video(video)
        self.info = self._source.info
        try:
            self._check()
        except SamVideoError:
            self.close()
            raise
        self._frames = iter(self._source)

    def _check(self) -> None:
        """Compare what is known without decoding; a table has no size and no name."""
        run, video = self._run.info, self.info
        if isinstance(self._run, TracksTable):
            return
        if video.size_wh != run.size_wh:
            raise VideoError(
                f"{self._name} is {video.size_wh}, the run {run.size_wh} (width, height): the video that was "
                "tracked expected"
            )
        if self._first is not None:
            return
        stated = run.frame_count in (None, video.frame_count)
        count = None if stated else self._source.length()
        if count is not None and count != run.frame_count:
            raise VideoError(
                f"{self._name} has {count} frames, the video that was tracked had {run.frame_count}: {REMEDY}"
            )
        if run.name not in (video.name, STRIPPED_NAME):
            log.warning("the run is of %s, but %s is given: look at the result", run.name, self._name)

    def frame_of(self, tracked: FrameRecord) -> Frame:
        """Return the next frame of the run. VideoError if the video has none with that index, time and look."""
        begin = self._begin = self._begin or tracked
        index = tracked.index if self._first is None else self._first + tracked.index - begin.index
        frame = next((decoded for decoded in self._frames if decoded.index >= index), None)
        if frame is None or frame.index != index:
            raise VideoError(f"{self._name} has no frame {index}, which was tracked: {REMEDY}")
        if self._first is not None and tracked is begin:
            self._shift = frame.seconds - tracked.seconds
        if abs(frame.seconds - tracked.seconds - self._shift) > CLOCK:
            raise VideoError(
                f"frame {index} of {self._name} is shown at {frame.seconds:.3f} s, in the run at "
                f"{tracked.seconds + self._shift:.3f} s: {REMEDY}"
            )
        look = tracked.thumbnail
        if look is not None and not self._recognition.accepts(thumbnail(frame.rgb), from_text(look)):
            raise VideoError(f"frame {index} of {self._name} is another picture than the one tracked: {REMEDY}")
        return frame

    def writer(self, out: Path, audio_from: str | None = None) -> VideoWriter:
        """Return a writer of frames like those of the video."""
        info = self.info
        return VideoWriter(
            out, info.size_wh, self._run.info.rate, audio_from=audio_from, pixel_aspect=info.pixel_aspect
        )

    def close(self) -> None:
        """Close the video."""
        self._source.close()


def paired(run: TracksFile, video: RunVideo) -> Iterator[tuple[Frame, FrameRecord]]:
    """Yield every frame of a run as decoded and as tracked; frames that were not tracked are skipped.

    Raises VideoError if they do not belong together.
    """
    for tracked in run:
        yield video.frame_of(tracked), tracked


@contextmanager
def discarding(writer: VideoWriter) -> Iterator[VideoWriter]:
    """Close the writer after the block; on VideoError discard its file, whose frames may have the wrong masks."""
    with writer:
        try:
            yield writer
        except VideoError:
            writer.discard()
            raise
