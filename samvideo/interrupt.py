"""Handles Ctrl-C between frames, so that the current frame is finished and every file is finalised."""

import signal
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")
HANGUP = getattr(signal, "SIGHUP", None)  # the terminal was closed, or a connection was lost; Windows has none


class Interrupt:
    """Inside the `with` block, the first SIGINT, SIGTERM or SIGHUP only sets `requested`.

    The loop checks it per frame. A second signal, or one during `awaited` (a camera that hangs), raises
    KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.requested = False
        self._waiting = False
        self._handlers: dict[int, Any] = {}

    def awaited(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items; a signal while the next one is fetched interrupts immediately."""
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
        repeated, self.requested = self.requested, True
        if repeated or self._waiting:
            raise KeyboardInterrupt

    def __enter__(self) -> "Interrupt":
        numbers = [signal.SIGINT, signal.SIGTERM]
        if HANGUP is not None and signal.getsignal(HANGUP) is not signal.SIG_IGN:  # nohup ignores it
            numbers.append(HANGUP)
        for number in numbers:
            self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
