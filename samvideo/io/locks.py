"""A lock on an output folder: two processes never write into it at the same time."""

import errno
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from samvideo.errors import ConfigError, OutputError
from samvideo.io.files import LOCK, making

log = logging.getLogger(__name__)

_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of an output folder, which is created if it is missing.

    The system releases the lock when the process ends, however it ends. Folders created here that are still empty
    after the block are removed again. On a file system without locks the block runs unlocked, with a warning.

    Raises:
        ConfigError: another process, or another block of this one, holds the lock.
        OutputError: the folder cannot be created or written.
    """
    lock = FileLock(folder / LOCK, thread_local=False)
    with ExitStack() as stack:
        try:
            stack.enter_context(making(folder))
            stack.callback(_release, lock)
            lock.acquire(timeout=0)
        except Timeout:
            raise ConfigError(
                f"another samvideo process writes into {folder}: wait for it, or choose another folder"
            ) from None
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                reason = error.strerror or error
                raise OutputError(f"{folder} cannot be written: {reason}; choose another folder") from error
            log.warning("the file system of %s has no locks: run one process at a time in this folder", folder)
        yield


def _release(lock: FileLock) -> None:
    if lock.is_locked:
        with suppress(OSError):  # before the release, when nobody else can have locked it
            Path(lock.lock_file).unlink()
        lock.release()
