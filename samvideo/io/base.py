"""Base classes: `Closing` for everything that has to be closed, `VideoSource` for the readers."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
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

    def __exit__(self, kind: object, *error: object) -> None:
        try:
            self.close()
        except SamVideoError:
            if kind is None:
                raise


class VideoSource(Closing):
    """A context-managed iterator of `Frame` in display order; see `tests/contracts/test_video_source.py`.

    Iteration continues at the current position: after `seek(index)` the next frame is `index`. A reader holds no
    more frames than its queue. Broken packets are skipped, counted in `skipped` and logged; a source that ends
    too early raises VideoError after its last good frame.
    """

    info: VideoInfo
    files: Sequence[Path] = ()  # the local files that it reads
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
        """Make `index` the next frame, identical to the one that streaming returns there.

        Raises:
            VideoError: the source cannot go back (camera, pipe), or has no such frame.
        """

    def index_at(self, seconds: float) -> int | None:
        """Return the frame shown at a time, the number of frames from the end on; None if that requires decoding.

        See `timeline.shown_at`. A file may be read once for it, without decoding.
        """
        return None

    def length(self) -> int | None:
        """Return the number of frames, also where no header states it; None for a live source.

        A file may be read once for it, as by `index_at`.
        """
        return self.info.frame_count

    def __iter__(self) -> Iterator[Frame]:
        while not self._closed:
            if (frame := self._read()) is None:
                return
            yield frame
        raise VideoError(f"{self.info.name} is closed: open it again to continue reading")

    def _check_index(self, index: int) -> None:
        count = self.info.frame_count
        if index < 0 or (count is not None and index >= count):
            known = f"0 to {count - 1}" if count else "0 upward"
            raise VideoError(f"{self.info.name} has no frame {index}: {known} expected")

    def close(self) -> None:
        """See `Closing.close`."""
        if not self._closed:
            self._closed = True
            self._release()
