"""Work of which only the newest request matters, and threads for work that may never end."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

LOOK = 0.1  # seconds between two looks at whether the server ends
T = TypeVar("T")


class Turns:
    """One request works at a time; of those that wait, only the newest has its turn."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._newest = 0
        self._working = False

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """Wait for a turn, which lasts while entered; False at once when a newer request overtook this one."""
        with self._changed:
            self._newest = ticket = self._newest + 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: ticket != self._newest or not self._working)
            mine = ticket == self._newest
            self._working = self._working or mine
        try:
            yield mine
        finally:
            if mine:
                with self._changed:
                    self._working = False
                    self._changed.notify_all()

    def close(self, seconds: float) -> None:
        """Send away those that wait, and wait some seconds for the one that works."""
        with self._changed:
            self._newest += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._working, seconds)


async def in_own_thread(act: Callable[[], T], ended: Callable[[], bool]) -> T | None:
    """Await a function in a thread that neither server nor command wait for; None if they have `ended` before."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():  # nobody waits any more
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, error = None, None
        try:
            result = act()
        except Exception as failure:  # belongs to whoever awaits it
            error = failure
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, name="samvideo-work", daemon=True).start()
    while not future.done() and not ended():
        await asyncio.wait([future], timeout=LOOK)
    return await future if future.done() else None
