"""Base classes: `Closing` for everything that has to be closed, `Reader` for video sources."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import TypeVar

from samvideo.errors import SamVideoError, VideoError
from samvideo.types import Frame, VideoInfo

Self = TypeVar("Self", bound="Closing")


class Closing(ABC):
    """Context manager that calls `close` on exit.

    If the block failed, a SamVideoError of `close` is dropped: the first error is the cause.
    """

    @abstractmethod
    def close(self) -> None:
        """Release everything; may be called twice."""

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except SamVideoError:
            if error is None:
                raise


class Reader(Closing):
    """Base class of the video sources, see `VideoSource`.

    A subclass sets `info` and implements `_read`, `_release` and `seek`; iteration continues at the current
    position.
    """

    info: VideoInfo
    skipped: int = 0
    _closed: bool = False

    @abstractmethod
    def _read(self) -> Frame | None:
        """The next frame, None at the end."""

    @abstractmethod
    def _release(self) -> None:
        """Close files and devices; called once."""

    @abstractmethod
    def seek(self, index: int) -> None:
        """Make `index` the next frame; VideoError if the source cannot seek there."""

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> Frame | None:
        if self._closed:
            raise VideoError(f"{self.info.name} is closed: open it again to continue reading")
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
