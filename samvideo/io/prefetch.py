"""Decode in advance: a thread fills a bounded queue while the caller computes."""

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from typing import Generic, TypeVar

Item = TypeVar("Item")

DEPTH = 8  # frames; more does not hide more latency and costs memory


class _Producer(Generic[Item]):
    def __init__(self, items: Iterable[Item], depth: int) -> None:
        self._items = items
        # A slot is taken before an item is produced, so that it counts as well.
        self._slots = threading.Semaphore(depth)
        self._queue: queue.SimpleQueue[tuple[Item | None, BaseException | None]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="samvideo-prefetch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        iterator = iter(self._items)
        error: BaseException | None = None
        try:
            while True:
                self._slots.acquire()
                if self._stop.is_set():
                    break
                self._queue.put((next(iterator), None))
        except StopIteration:
            pass
        except BaseException as caught:
            error = caught
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                with suppress(Exception):  # the error of the reader matters more
                    close()
            self._queue.put((None, error))

    def take(self) -> Iterator[Item]:
        while True:
            item, error = self._queue.get()
            if error is not None:
                raise error
            if item is None:
                return
            self._slots.release()
            yield item

    def close(self) -> None:
        self._stop.set()
        self._slots.release()
        self._thread.join()


def prefetch(items: Iterable[Item], depth: int = DEPTH) -> Generator[Item, None, None]:
    """Yield `items` (never None), produced up to `depth` in advance by a thread.

    The thread starts at the first `next` and is joined when the generator ends, fails or is closed; an error in
    it is raised here with its traceback, after the items before it. Use it with `contextlib.closing` inside the
    `with` block of the source: an active exception keeps a generator alive, and a source must never be closed
    while the thread still reads it.
    """
    producer = _Producer(items, depth)
    try:
        yield from producer.take()
    finally:
        producer.close()
