"""The file or folder that a command makes of a run: complete or not at all, and nothing else is replaced."""

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import TypeAdapter

from samvideo.errors import ConfigError
from samvideo.io.files import LOCK, check_new, check_writable, making
from samvideo.io.paths import inside
from samvideo.io.schema import read_json
from samvideo.run_folder import RESULT_NAMES, Listed

log = logging.getLogger(__name__)

_ENDED = {"running": "goes on, or was killed", "interrupted": "was interrupted", "failed": "failed"}
_NAMES = TypeAdapter(list[str])


def list_of(kind: str) -> str:
    """Return the name of the file that lists, in a folder made by "export" or the like, what may be replaced."""
    return f".samvideo-{kind}.json"


def check_target(
    target: Path,
    tracks: Path,
    overwrite: bool,
    *,
    video: Path | str | None = None,
    folder: str | None = None,
    restores: bool = False,
) -> None:
    """Check that a target may be written; nothing is changed.

    Args:
        target: file or folder to write.
        tracks: the file that the run is read from; no file of its run is replaced.
        overwrite: whether an earlier target is replaced.
        video: the source, which is not replaced either.
        folder: what writes it if it is a folder, such as "export"; None for a file.
        restores: whether it may be the `tracks.json` of the run.

    Raises:
        ConfigError: it exists, and may not or cannot be replaced.
        OutputError: its folder cannot be made or written.
    """
    own, run = target.resolve(), tracks.resolve().parent
    kept = {tracks.resolve(), *(run / name for name in RESULT_NAMES)}
    if restores and tracks.suffix == ".jsonl":
        kept.discard(run / "tracks.json")
    if any(path in (own, *own.parents) for path in kept) or run == own or own in run.parents:
        raise ConfigError(f"{target} belongs to the run that is read: choose another path with -o")
    with suppress(ConfigError):  # a run without its record
        if ended := _ENDED.get(Listed.of(run).status or ""):
            log.warning("%s: the run %s, so that only the frames until then are read", run, ended)
    empty = target.is_dir() and not any(target.iterdir())
    check_new(target, overwrite or (folder is not None and empty), keep=[video] if video else [])
    check_writable(target if target.is_dir() else target.parent)
    if target.exists() and target.is_dir() != (folder is not None):
        wanted = "a file" if folder is None else "a folder"
        raise ConfigError(f"{target} exists, and what is written is {wanted}: choose another path with -o")
    if folder is not None and target.is_dir():
        listed(target, folder)


@contextmanager
def complete(target: Path, folder: str = "export") -> Iterator[Path]:
    """Yield a path to write to; what is there after the block replaces `target`. After an error nothing is left.

    `folder` is as in `check_target`.
    """
    with making(target.parent), TemporaryDirectory(prefix=".samvideo-", dir=target.parent) as scratch:
        part = Path(scratch) / target.name
        yield part
        if part.is_dir():
            _replace_folder(part, target, folder)
        else:
            part.replace(target)


def _replace_folder(part: Path, target: Path, kind: str) -> None:
    """Move all files of `part`; those that `target` lists are removed, and no others are touched."""
    names = sorted(path.relative_to(part).as_posix() for path in part.rglob("*") if path.is_file())
    earlier = listed(target, kind) if target.exists() else []
    for name in names:
        if name not in earlier and (target / name).exists():
            raise ConfigError(f"{target / name} was not written by an earlier {kind}: choose another folder")
    target.mkdir(exist_ok=True)
    _write_list(part, target, kind, {*earlier, *names})  # before any file, for a process that is killed meanwhile
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (part / name).replace(target / name)
    for name in set(earlier).difference(names):
        inside(target, name, f"a name in {target / list_of(kind)}", ConfigError).unlink(missing_ok=True)
    _write_list(part, target, kind, names)


def _write_list(part: Path, target: Path, kind: str, names: Iterable[str]) -> None:
    (part / list_of(kind)).write_text(json.dumps(sorted(names)), encoding="utf-8")
    (part / list_of(kind)).replace(target / list_of(kind))


def listed(folder: Path, kind: str) -> list[str]:
    """Return the names of the files written there earlier; ConfigError if the folder holds something else.

    A lock does not count: a process that writes here holds it, or was killed.
    """
    if all(file.name == LOCK for file in folder.iterdir()):
        return []
    path = folder / list_of(kind)
    if not path.exists():
        raise ConfigError(f"{folder} holds files that no earlier {kind} wrote: choose another folder")
    names = read_json(path, _NAMES, "a list of names (choose another folder)", ConfigError)
    for name in names:
        inside(folder, name, f"a name in {path}", ConfigError)
    return names
