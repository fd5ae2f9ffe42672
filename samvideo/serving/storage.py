"""Temporary folders for the videos of sessions, which do not stay behind when a server is killed."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from samvideo.io.files import LOCK

PREFIX = "samvideo-session-"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a new folder, which is removed after the block.

    It is locked until then: the system releases the lock when the process ends, however it ends, so that
    `remove_abandoned` can tell.

    Raises:
        OSError: it cannot be created.
    """
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        with suppress(Timeout, OSError, NotImplementedError):  # not every file system has locks
            lock.acquire(timeout=0)
        yield folder
    finally:
        lock.release()  # before the removal, since Windows keeps files that are open
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned() -> None:
    """Remove the folders of this user that are not locked any more, as a process was killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(Timeout, OSError, NotImplementedError):
            if _is_own(folder) and (folder / LOCK).exists():
                with FileLock(folder / LOCK, timeout=0):
                    pass
                shutil.rmtree(folder)


def _is_own(folder: Path) -> bool:
    """Whether it is a folder of this user, and not what another user has put in a folder that all can write."""
    facts = folder.lstat()
    return stat.S_ISDIR(facts.st_mode) and (os.name == "nt" or facts.st_uid == os.getuid())
