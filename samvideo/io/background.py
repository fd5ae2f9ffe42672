"""Write in the background: a thread empties a bounded queue while the caller computes."""

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from samvideo.io.base import Closing

Item = TypeVar("Item")


class Background(Closing, Generic[Item]):
    """Calls `sink(item)` on a thread, in order; `put` blocks only while `maxsize` items are queued.

    The first error of the sink is raised once, by the next `put` or by `close`; items after it are discarded.
    `close` joins the thread.
    """

    def __init__(self, sink: Callable[[Item], object], maxsize: int = 8) -> None:
        self._sink = sink
        self._queue: queue.Queue[tuple[Item] | None] = queue.Queue(maxsize)
        self._error: BaseException | None = None
        self._failed = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="samvideo-write", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (entry := self._queue.get()) is not None:
            if self._failed:
                continue  # keep emptying the queue, so that a blocked put wakes up
            try:
                self._sink(entry[0])
            except BaseException as caught:
                self._error, self._failed = caught, True

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def put(self, item: Item) -> None:
        """Queue one item. Raises the sink's error, and ValueError after `close`."""
        if self._closed:
            raise ValueError("this queue is closed: nothing more can be written")
        self._raise()
        self._queue.put((item,))

    def close(self) -> None:
        """Wait until everything is written, end the thread, raise a pending error; may be called twice."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._thread.join()
        self._raise()
