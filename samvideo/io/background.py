"""Write behind: a thread empties a bounded queue while the caller computes."""

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Background(Generic[Item]):
    """Calls `sink(item)` on a thread, in order; `put` waits only while `maxsize` items wait.

    The first error of the sink is raised by the next `put` or by `close`, whichever comes first, and once;
    items after it are discarded. The thread is joined by `close`, also when the caller's block fails.
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
                continue  # keep emptying, so that a waiting put wakes up
            try:
                self._sink(entry[0])
            except BaseException as caught:
                self._error, self._failed = caught, True

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def put(self, item: Item) -> None:
        """Hand over one item. Raises the sink's error, ValueError after `close`."""
        if self._closed:
            raise ValueError("this queue is closed: nothing can be written any more")
        self._raise()
        self._queue.put((item,))

    def close(self) -> None:
        """Wait until all is written, end the thread, raise a pending error; may be called twice."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._thread.join()
        self._raise()

    def __enter__(self) -> "Background[Item]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
