"""Frames of the source together with the masks of a run."""

from collections.abc import Iterator

from samvideo.errors import VideoError
from samvideo.io.source import open_video
from samvideo.io.tracks import FrameRecord, TracksFile
from samvideo.types import Frame


def paired(tracks: TracksFile, video: str) -> Iterator[tuple[Frame, FrameRecord]]:
    """Yield every frame of a run as decoded and as tracked; frames that were not tracked are skipped.

    Raises:
        VideoError: the video cannot be read, has another size, or is shorter than the run.
    """
    with open_video(video) as source:
        if source.info.size_wh != tracks.info.size_wh:
            raise VideoError(
                f"{video} is {source.info.size_wh}, the run {tracks.info.size_wh} (width, height): the video "
                "that was tracked expected"
            )
        frames = iter(source)
        for tracked in tracks:
            frame = next((decoded for decoded in frames if decoded.index >= tracked.index), None)
            if frame is None or frame.index != tracked.index:
                raise VideoError(f"{video} has no frame {tracked.index}: the video that was tracked expected")
            yield frame, tracked
