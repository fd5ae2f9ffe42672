"""Rules for every test: no hypothesis deadline, no logged errors, no threads or processes left behind."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest
from filelock import FileLock
from hypothesis import settings

IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
if IS_WORKER:
    # There is a worker for each core: several threads in each, and in the commands it starts, wait for one another,
    # and tests take up to twenty times as long.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

T = TypeVar("T")

settings.register_profile("local", deadline=None)  # how long an example takes depends on the machine's load
settings.register_profile("checked", deadline=None, derandomize=True)
settings.load_profile("checked" if os.environ.get("CI") else "local")

GRACE = 3.0  # seconds for threads and processes to end after a test
# Names of threads that live as long as the process by design, with the reason.
LASTING_THREADS = {
    "AnyIO worker thread": "the pool of the page's server, which ends with the server",
    "tqdm_monitor": "of the progress bars of the ONNX exporter",
}
# Parts of command lines of such processes.
LASTING_PROCESSES = {
    "multiprocessing.resource_tracker": "started by multiprocessing with the first spawned process",
    "multiprocessing.forkserver": "likewise",
}


class _ErrorRecords(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(f"{record.name}: {record.getMessage()}")


@pytest.fixture(autouse=True)
def no_logged_errors(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that logs at level ERROR, unless it is marked with `logs_errors`."""
    handler = _ErrorRecords()
    logging.getLogger().addHandler(handler)
    yield
    logging.getLogger().removeHandler(handler)
    if not request.node.get_closest_marker("logs_errors"):
        assert not handler.messages, "errors were logged; mark a test that provokes them with logs_errors"


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    """Fail a test whose threads or child processes outlive it; those of wider fixtures existed before it."""
    threads, processes = _threads(), _processes()
    yield
    assert not _remaining(_threads, threads), "threads outlive the test"
    assert not _remaining(_processes, processes), "child processes outlive the test"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Commands limit the threads of their process, which in a test is this one."""
    yield
    if IS_WORKER and "torch" in sys.modules and sys.modules["torch"].get_num_threads() != 1:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported `tiny_model(**EXPORTED)`, made once for all workers; not to be changed."""
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    from tiny_sam import EXPORTED, tiny_model

    from samvideo.deploy.bundle import export_model

    folder = tmp_path_factory.getbasetemp()
    if IS_WORKER:
        folder = folder.parent
    with FileLock(folder / "tiny.lock"):
        if not (folder / "tiny").exists():
            export_model(tiny_model(**EXPORTED), folder / "tiny")
    return folder / "tiny"


def _remaining(current: Callable[[], dict[T, str]], before: dict[T, str]) -> list[str]:
    end = time.monotonic() + GRACE
    while new := [name for key, name in current().items() if key not in before]:
        if time.monotonic() > end:
            break
        time.sleep(0.01)
    return new


def _threads() -> dict[threading.Thread, str]:
    lasting = tuple(LASTING_THREADS)
    return {thread: thread.name for thread in threading.enumerate() if not thread.name.startswith(lasting)}


def _processes() -> dict[int, str]:
    """Command lines of this process's children."""
    try:  # most tests have no children, and psutil reads all of /proc to find that out
        if hasattr(os, "waitid"):  # Windows has none, nor macOS before Python 3.13
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return {}
    found = {}
    for process in psutil.Process().children():
        try:
            command = " ".join(process.cmdline())
        except psutil.NoSuchProcess:  # also: it ended, but was not waited for
            command = f"process {process.pid}, which has ended"
        if not any(part in command for part in LASTING_PROCESSES):
            found[process.pid] = command
    return found
