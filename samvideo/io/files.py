"""Files that are never seen half-written, and folders that are never overwritten by accident."""

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from samvideo.errors import ConfigError, OutputError

LOCK = ".samvideo.lock"
"""Name of the file that `samvideo.io.locks` keeps in an output folder; a killed process leaves it behind."""


def unfinished(path: Path) -> Path:
    """Where `path` is written before it is complete; a process killed meanwhile leaves this file behind."""
    return path.with_name(f".{path.name}.part")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it replaces `path` after the block, and is removed on an error."""
    part = unfinished(path)
    try:
        yield part
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file under another name, flush it to disk and rename it; OutputError if that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part, part.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}") from error


def write_over(path: Path, text: str) -> None:
    """Write a file atomically or, where the disk is full, over the old one if that is long enough."""
    try:
        write_atomically(path, text)
    except OutputError as error:
        data = text.encode()
        try:
            with path.open("r+b") as file:
                if os.fstat(file.fileno()).st_size < len(data):
                    raise error
                file.write(data)
                file.truncate()
        except OSError:
            raise error from None


def is_full(error: OSError) -> bool:
    """Whether an error means that there is no space: the disk, the user's quota, or the limit of a file's size."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def writing(path: Path, complete: str = "") -> Iterator[None]:
    """Turn an OSError of the block into an OutputError that names the path, the cause and the remedy.

    `complete` is what is whole nevertheless, such as "the frames before".
    """
    try:
        yield
    except OSError as error:
        whole = f"{complete} are complete: " if complete else ""
        full = is_full(error) or error.errno is None  # libraries that give no number seldom fail otherwise
        remedy = "free some space" if full else "check the folder and its permissions"
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; {whole}{remedy}, or choose another folder"
        ) from error


@contextmanager
def as_os_error(*errors: type[Exception]) -> Iterator[None]:
    """Turn what a library raises when it cannot write a file into an OSError, for `writing` around it."""
    try:
        yield
    except errors as error:
        cause = error.__context__
        if isinstance(cause, OSError):
            raise OSError(cause.errno, cause.strerror) from error
        raise OSError(str(error).partition("\n")[0]) from error


def stream_json(path: Path, head: Mapping[str, Any], lists: Mapping[str, Iterable[Any]]) -> None:
    """Write one JSON object in constant memory: all of `head`, not empty, then the lists, one element per line."""
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(head)[:-1])
        for name, items in lists.items():
            file.write(f", {json.dumps(name)}: [")
            for place, item in enumerate(items):
                file.write(f"{',' if place else ''}\n{json.dumps(item)}")
            file.write("\n]")
        file.write("}\n")


def check_new(path: Path, overwrite: bool, keep: Iterable[Path | str] = ()) -> None:
    """Raise ConfigError if there is such a file or folder and `overwrite` is off, or if it must not be replaced.

    Devices, pipes and the files in `keep`, such as the source, are not replaced.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ConfigError(f"{path} is not a regular file: choose another path")
    if any(Path(kept).exists() and path.exists() and path.samefile(kept) for kept in keep):
        raise ConfigError(f"{path} is what is read: choose another path")
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} exists: choose another path, or replace it with --overwrite")


def check_writable(folder: Path) -> None:
    """Raise OutputError if a folder, which need not exist, cannot be made or written."""
    place = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    reason = None
    if not place.is_dir():
        reason = f"{place} is not a folder"
    elif not os.access(place, os.W_OK | os.X_OK):
        reason = f"{place} is read-only, or not yours"
    if reason is not None:
        raise OutputError(f"cannot write into {folder}: {reason}; choose another folder")


@contextmanager
def making(folder: Path) -> Iterator[None]:
    """Make a folder and its parents; those that are still empty after the block are removed again."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        with suppress(OSError):
            for path in missing:
                path.rmdir()


def check_empty(folder: Path, overwrite: bool, content: str = "results") -> None:
    """Raise ConfigError if the folder holds files and `overwrite` is off; `content` is what would be replaced."""
    if not overwrite and folder.is_dir() and any(file.name != LOCK for file in folder.iterdir()):
        raise ConfigError(
            f"the folder {folder} is not empty: choose another folder, or replace its {content} with --overwrite"
        )
