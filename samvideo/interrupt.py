"""Ctrl-C between frames, so that what is under way is finished and every file is finalised."""

import signal
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any, TypeVar

T = TypeVar("T")


class Interrupt:
    """While entered, a first SIGINT or SIGTERM only sets `requested`; the loop looks at it after each frame.

    A second signal, or one while a frame is awaited (a camera that hangs), raises KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.requested = False
        self._waiting = False
        self._before: dict[int, Any] = {}

    def awaited(self, items: Iterable[T]) -> Iterator[T]:
        """The same items; while the next one is awaited a signal interrupts at once."""
        iterator = iter(items)
        while True:
            self._waiting = True
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self._waiting = False
            yield item

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        again, self.requested = self.requested, True
        if again or self._waiting:
            raise KeyboardInterrupt

    def __enter__(self) -> "Interrupt":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
