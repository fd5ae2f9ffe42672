"""Decode in advance: a thread fills a bounded queue while the caller computes."""

import queue
import threading
from collections.abc import Generator, Iterable
from contextlib import suppress
from typing import TypeVar

Item = TypeVar("Item")

DEPTH = 8  # frames; more does not hide more latency and costs memory


def prefetch(items: Iterable[Item], depth: int = DEPTH) -> Generator[Item, None, None]:
    """Yield `items` (never None), produced up to `depth` in advance by a thread.

    The thread starts at the first `next` and is joined when the generator ends, fails or is closed; an error in
    it is raised here with its traceback, after the items before it. Use it with `contextlib.closing` inside the
    `with` block of the source: an active exception keeps a generator alive, and a source must never be closed
    while the thread still reads it.
    """
    # A slot is taken before an item is produced, so that it counts as well.
    slots = threading.Semaphore(depth)
    ready: queue.SimpleQueue[tuple[Item | None, BaseException | None]] = queue.SimpleQueue()
    stop = threading.Event()

    def produce() -> None:
        iterator = iter(items)
        error: BaseException | None = None
        try:
            while slots.acquire() and not stop.is_set():
                ready.put((next(iterator), None))
        except StopIteration:
            pass
        except BaseException as caught:
            error = caught
        finally:
            if isinstance(iterator, Generator):
                with suppress(Exception):  # the error of the reader matters more
                    iterator.close()
            ready.put((None, error))

    thread = threading.Thread(target=produce, name="samvideo-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is None:
                return
            slots.release()
            yield item
    finally:
        stop.set()
        slots.release()
        thread.join()
