"""One more thread for work that leaves Python's lock alone, so that two cores are used where there are two."""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TypeVar

R = TypeVar("R")


def beside(work: Callable[[], R]) -> "Future[R]":
    """Start work in the other thread; its `result()` waits for it. Work may not start more work this way."""
    return _thread(os.getpid()).submit(work)


@cache
def _thread(process: int) -> ThreadPoolExecutor:
    # threads do not survive a fork: a child process gets its own
    return ThreadPoolExecutor(1, f"evidence-{process}")
