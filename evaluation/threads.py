"""How many threads the libraries of a worker take: the same whatever the number of workers.

The linear algebra under NumPy reads its limit once, from the environment, before it is loaded; left alone, it takes
every core for matrices far too small for that, which on a busy machine costs ten times the time it saves.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def limit_unloaded(count: int) -> None:
    """Limit libraries that are not loaded yet, here and in processes started from now on."""
    os.environ.update(dict.fromkeys(_VARIABLES, str(count)))


@contextmanager
def limit_children(count: int) -> Iterator[None]:
    """Limit the libraries of processes started meanwhile."""
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


def limit_loaded(count: int) -> None:
    """Limit OpenCV and PyTorch, where they are loaded."""
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
