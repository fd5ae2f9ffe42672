"""A helper thread for work that releases the GIL, so that a second core is used."""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TypeVar

R = TypeVar("R")


def beside(work: Callable[[], R]) -> "Future[R]":
    """Submit work to the helper thread. Such work must not submit more: there is one thread only."""
    return _thread(os.getpid()).submit(work)


@cache
def _thread(process: int) -> ThreadPoolExecutor:
    # Threads do not survive a fork, so that a child process needs its own.
    return ThreadPoolExecutor(1, f"evidence-{process}")
