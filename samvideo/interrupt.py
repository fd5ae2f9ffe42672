"""Handles Ctrl-C between frames, so that the current frame is finished and every file is finalised."""

import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")
# The terminal was closed, or a connection was lost: SIGHUP, on Windows SIGBREAK, which Ctrl-Break sends, too.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


class Interrupt:
    """Inside the `with` block, the first of `SIGNALS` only sets `requested`.

    The loop checks it per frame. A second signal, or one during `awaited` (a camera that hangs), raises
    KeyboardInterrupt. In other threads than the main one no signal is handled: `requested` is set by the program.
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
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in SIGNALS:
            # nohup ignores SIGHUP; shells ignore SIGINT for jobs in the background, which may be sent it on purpose
            if number != signal.SIGINT and signal.getsignal(number) is signal.SIG_IGN:
                continue
            self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
