"""Where frames come from: the protocol of every reader, and `open_video`, which picks one."""

from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, runtime_checkable

from samvideo.types import Frame, VideoInfo


@runtime_checkable
class VideoSource(Protocol):
    """A context-managed iterator of `Frame` in display order; `tests/contracts/test_video_source.py` runs over all.

    Iterating goes on from where it stands: after `seek(index)` the next frame is `index`. A reader holds no more
    frames than its queue. Broken pieces are skipped, counted in `skipped` and logged; a source that breaks off
    altogether raises VideoError after its last good frame.
    """

    info: VideoInfo
    skipped: int

    def __iter__(self) -> Iterator[Frame]: ...

    def seek(self, index: int) -> None:
        """Make `index` the next frame, the very picture that streaming gives there.

        Raises:
            VideoError: the source cannot go back (camera, pipe), or has no such frame.
        """
        ...

    def close(self) -> None:
        """Release the source; may be called twice."""
        ...

    def __enter__(self) -> "VideoSource": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
