"""The pictures of a run's source beside its masks."""

from collections.abc import Iterator

from samvideo.errors import VideoError
from samvideo.io.source import open_video
from samvideo.io.tracks import TrackedFrame, TracksFile
from samvideo.types import Frame


def paired(tracks: TracksFile, video: str) -> Iterator[tuple[Frame, TrackedFrame]]:
    """Every frame of a run with its picture; pictures that were not tracked are passed over.

    Raises:
        VideoError: the video cannot be read, has another size, or ends before the run does.
    """
    with open_video(video) as source:
        if source.info.size_wh != tracks.info.size_wh:
            raise VideoError(
                f"{video} is {source.info.size_wh}, the run {tracks.info.size_wh} (width, height): the video "
                "that was tracked expected"
            )
        pictures = iter(source)
        for tracked in tracks:
            frame = next((picture for picture in pictures if picture.index >= tracked.index), None)
            if frame is None or frame.index != tracked.index:
                raise VideoError(f"{video} has no frame {tracked.index}: the video that was tracked expected")
            yield frame, tracked
