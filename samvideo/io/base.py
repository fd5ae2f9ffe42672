"""What all readers share: iteration that goes on where it stands, and a close that may be called twice."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType

from samvideo.errors import VideoError
from samvideo.types import Frame, VideoInfo


class Reader(ABC):
    """A `VideoSource` in all but its decoding; a reader sets `info` and defines `_read`, `_release` and `seek`."""

    info: VideoInfo
    skipped: int = 0
    _closed: bool = False

    @abstractmethod
    def _read(self) -> Frame | None:
        """The next frame, None at the end."""

    @abstractmethod
    def _release(self) -> None:
        """Let go of files and devices; called once."""

    @abstractmethod
    def seek(self, index: int) -> None:
        """Make `index` the next frame; VideoError where that cannot be."""

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> Frame | None:
        if self._closed:
            raise VideoError(f"{self.info.name} is closed: open it again to read on")
        return self._read()

    def _check_index(self, index: int) -> None:
        count = self.info.frame_count
        if index < 0 or (count is not None and index >= count):
            known = f"0 to {count - 1}" if count else "0 upward"
            raise VideoError(f"{self.info.name} has no frame {index}: {known} expected")

    def close(self) -> None:
        """Release the source; may be called twice."""
        if not self._closed:
            self._closed = True
            self._release()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
