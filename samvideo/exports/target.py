"""The file or folder that an export writes: complete or not at all, and nothing else is replaced."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import TypeAdapter

from samvideo.errors import ConfigError
from samvideo.exports.base import Format
from samvideo.io.files import check_new
from samvideo.io.paths import inside
from samvideo.io.schema import read_json
from samvideo.run_folder import RESULT_NAMES

LIST = ".samvideo-export.json"  # in a folder that was exported: the files that may be replaced
_NAMES = TypeAdapter(list[str])


def check_target(target: Path, format: Format, tracks: Path, video: str | None, overwrite: bool) -> None:
    """Raise ConfigError for a target that exists, and that may not or cannot be replaced.

    Args:
        target: file or folder to write.
        format: what is written.
        tracks: the file that the run is read from; no file of its run is replaced.
        video: the source, which is not replaced either.
        overwrite: whether an earlier export is replaced.
    """
    own, run = target.resolve(), tracks.resolve().parent
    kept = {tracks.resolve(), *(run / name for name in RESULT_NAMES)}
    if format.restores and tracks.suffix == ".jsonl":
        kept.discard(run / "tracks.json")
    if any(path in (own, *own.parents) for path in kept) or run == own or own in run.parents:
        raise ConfigError(f"{target} belongs to the run that is exported: choose another path with -o")
    check_new(target, overwrite, keep=[video] if video else [])
    if not target.exists():
        return
    if target.is_dir() == bool(format.suffix):
        wanted = "a file" if format.suffix else "a folder"
        raise ConfigError(f"{target} exists, and this format is {wanted}: choose another path with -o")
    if target.is_dir():
        _listed(target)


@contextmanager
def complete(target: Path) -> Iterator[Path]:
    """Yield a path to write to; what is there after the block replaces `target`. After an error nothing is left."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".samvideo-", dir=target.parent) as scratch:
        part = Path(scratch) / target.name
        yield part
        if part.is_dir():
            _replace_folder(part, target)
        else:
            part.replace(target)


def _replace_folder(part: Path, target: Path) -> None:
    """Move all files of `part`; those of an earlier export are removed, and no others are touched."""
    names = sorted(path.relative_to(part).as_posix() for path in part.rglob("*") if path.is_file())
    earlier = _listed(target) if target.exists() else []
    for name in names:
        if name not in earlier and (target / name).exists():
            raise ConfigError(f"{target / name} was not written by an export: choose another folder with -o")
    (part / LIST).write_text(json.dumps(names), encoding="utf-8")
    for name in earlier:
        inside(target, name, f"a name in {target / LIST}", ConfigError).unlink(missing_ok=True)
    for name in [*names, LIST]:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (part / name).replace(target / name)


def _listed(folder: Path) -> list[str]:
    """Return the names of the files of an earlier export; ConfigError if the folder holds something else."""
    if not any(folder.iterdir()):
        return []
    expected = "an empty folder, or one that an export wrote,"
    names = read_json(folder / LIST, _NAMES, expected, ConfigError)
    for name in names:
        inside(folder, name, f"a name in {folder / LIST}", ConfigError)
    return names
