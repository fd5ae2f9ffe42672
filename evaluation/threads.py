"""Limit the threads of the libraries in a worker, independently of the number of workers.

The linear algebra library of NumPy reads its limit from the environment when it is loaded. Without a limit it uses
all cores even for small matrices, which on a busy machine costs ten times the time it saves.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def limit_unloaded(count: int) -> None:
    """Limit libraries that are not loaded yet, in this process and in processes it starts from now on."""
    os.environ.update(dict.fromkeys(_VARIABLES, str(count)))


@contextmanager
def limit_children(count: int | None) -> Iterator[None]:
    """Limit the libraries of processes that are started within the context; None does not."""
    if count is None:
        yield
        return
    before = {name: os.environ.get(name) for name in _VARIABLES}
    limit_unloaded(count)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def limit_loaded(count: int | None) -> Callable[[], None]:
    """Limit OpenCV and PyTorch if they are loaded, None does not; returns what restores the limits of before."""
    before: list[tuple[Callable[[int], None], int]] = []
    if count is not None:
        if "cv2" in sys.modules:
            cv2 = sys.modules["cv2"]
            before.append((cv2.setNumThreads, cv2.getNumThreads()))
        if "torch" in sys.modules:
            torch = sys.modules["torch"]
            before.append((torch.set_num_threads, torch.get_num_threads()))
        for limit, _ in before:
            limit(count)

    def restore() -> None:
        for limit, earlier in before:
            limit(earlier)

    return restore
