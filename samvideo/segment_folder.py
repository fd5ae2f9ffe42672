"""The folder of `samvideo segment`: which files are its own, and whether new ones may be written there.

As in `samvideo.run_folder`, only files that the `run.json` of the folder lists are ever removed. A file is noted in
a journal before it is written, until `run.json` lists it, so this is true of a killed command as well.
"""

import json
import os
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from samvideo.errors import ConfigError, SamVideoError
from samvideo.io.files import check_empty, check_writable, unfinished, writing
from samvideo.io.paths import inside
from samvideo.io.schema import read_json
from samvideo.run_folder import RECORD, Status

JOURNAL = ".segmented.txt"
FOLDERS: Mapping[str, str] = {"overlay": ".jpg", "masks": ".png"}
"""The kinds of result with one or more files per image, each in a folder of that name, and their suffix."""
FILES: Mapping[str, str] = {"rle": "segments.json", "csv": "segments.csv", "coco": "coco.json"}
"""The kinds of result that are one file."""
KINDS = (*FOLDERS, *FILES)

Name = Annotated[
    str, Field(pattern=r"^(?:overlay/[^/\\]+\.jpg|masks/[^/\\]+\.png|segments\.(?:json|csv)|coco\.json)$")
]


@dataclass(frozen=True)
class SegmentRecord:
    """What `run.json` states about the files beside it: names relative to its folder, by kind of result."""

    command: Literal["segment"]
    status: Status
    files: dict[str, list[Name]]


_RECORD = TypeAdapter(SegmentRecord)
_NAME: TypeAdapter[str] = TypeAdapter(Name)


def image_file(kind: str, stem: str, candidate: int | None = None) -> str:
    """Return the name of the file that holds an image's result, or one of its mask candidates."""
    return f"{kind}/{stem}{'' if candidate is None else f'_{candidate}'}{FOLDERS[kind]}"


def listed(folder: Path) -> set[str]:
    """Return the names of the files of an earlier `samvideo segment` in a folder.

    Raises:
        ConfigError: its `run.json` is something else.
    """
    path = folder / RECORD
    if not path.exists():
        return set()
    try:
        record = read_json(path, _RECORD, "the record of `samvideo segment`", ConfigError)
    except ConfigError as error:
        raise ConfigError(f"{error}: nothing in {folder} is replaced; choose another folder with -o") from error
    names = {name for of_kind in record.files.values() for name in of_kind}
    with suppress(OSError):
        for line in (folder / JOURNAL).read_text("utf-8", errors="replace").split("\n")[:-1]:
            with suppress(ValueError):
                names.add(_NAME.validate_json(line))
    for name in names:
        inside(folder, name, f"a name in {path}", ConfigError)
    return names


def check_stems(images: Sequence[Path], multimask: bool) -> None:
    """Raise ConfigError if the results of two images would have the same name, or one that cannot be written."""
    by_stem: dict[str, Path] = {}
    for path in images:
        if not path.stem.isprintable() or "\\" in path.stem:
            raise ConfigError(
                f"results cannot be named after the image {path.name!r}: rename it, without backslashes and "
                "control characters"
            )
        other = by_stem.setdefault(_as_stored(path.stem), path)
        if other != path:
            raise ConfigError(
                f"the results of {other} and {path} would have the same name, {path.stem}: segment them into "
                "different folders (-o), or rename one"
            )
    for stem, path in by_stem.items() if multimask else ():
        base, _, number = stem.rpartition("_")
        if number.isdecimal() and base in by_stem:
            raise ConfigError(
                f"the mask of {path} would have the name of a candidate of {by_stem[base]}: segment them into "
                "different folders (-o), or rename one"
            )


def _as_stored(name: str) -> str:
    """A name as file systems compare it; those of macOS and Windows usually know no capitals."""
    return name.casefold() if sys.platform in ("darwin", "win32") else name


def check_segment_folder(
    folder: Path, kinds: Collection[str], overwrite: bool, images: Sequence[Path], prompts: Sequence[Path]
) -> None:
    """Check that results of images may be written into a folder; nothing is changed.

    Args:
        folder: need not exist.
        kinds: of results.
        overwrite: whether the files of an earlier `samvideo segment` there may be replaced.
        images: what is read.
        prompts: the files that prompts are read from.

    Raises:
        ConfigError: it holds files and `overwrite` is off, or files with the names of results that its `run.json`
            does not list; or one of the files that are read lies where results are written.
        OutputError: it cannot be written.
    """
    for place in (folder, *(folder / kind for kind in FOLDERS)):
        if place != folder and os.path.lexists(place) and not place.is_dir():
            raise ConfigError(f"{place} is not a folder: move it away, or choose another folder with -o")
        check_writable(place)
    taken = {(folder / kind).resolve() for kind in FOLDERS}
    files = {(folder / name).resolve() for name in (RECORD, JOURNAL, *FILES.values())}
    for path in (*images, *prompts):
        if path.resolve() in files or taken.intersection((path.parent.resolve(), path.resolve().parent)):
            raise ConfigError(
                f"{path}, which is read, lies where the results are written ({folder}): choose another folder "
                "with -o"
            )
    check_empty(folder, overwrite)
    own = listed(folder)
    for name in (*_names(kinds, images), *_candidates(folder, images)):
        if name not in own and os.path.lexists(folder / name):
            raise ConfigError(
                f"{folder / name} would be replaced, but is not among the files of an earlier `samvideo segment` "
                f"that {folder / RECORD} lists: move it away, or choose another folder with -o"
            )


def _names(kinds: Collection[str], images: Sequence[Path]) -> Iterator[str]:
    yield from (FILES[kind] for kind in kinds if kind in FILES)
    yield from (image_file(kind, path.stem) for kind in kinds if kind in FOLDERS for path in images)


def _candidates(folder: Path, images: Sequence[Path]) -> Iterator[str]:
    """Yield the files that have the name of a mask candidate of an image."""
    stems = {path.stem for path in images}
    for path in (folder / "masks").glob("*_*.png"):
        base, _, number = path.stem.rpartition("_")
        if number.isdecimal() and base in stems:
            yield f"masks/{path.name}"


def prepare_segment_folder(folder: Path) -> None:
    """Make the folder, and remove the files that its `run.json` lists, but not `run.json` itself.

    Raises:
        OutputError: it cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path in [folder / name for name in listed(folder)]:
            for own in (path, unfinished(path), path.with_name(f".{path.name}.whole")):
                own.unlink(missing_ok=True)
        (folder / JOURNAL).unlink(missing_ok=True)
        for kind in FOLDERS:
            with suppress(OSError):  # not there, or the user has put something there
                (folder / kind).rmdir()


def discard_segment_folder(folder: Path) -> None:
    """Remove a run of which nothing was written, and the folder if it is empty then."""
    with suppress(OSError, SamVideoError):
        prepare_segment_folder(folder)
        (folder / RECORD).unlink()
    with suppress(OSError):
        folder.rmdir()


def by_kind(names: Iterable[str]) -> dict[str, list[str]]:
    """Sort the names of files by the kind of result."""
    kinds: dict[str, list[str]] = defaultdict(list)
    single = {name: kind for kind, name in FILES.items()}
    for name in names:
        kinds[single.get(name) or name.partition("/")[0]].append(name)
    return dict(kinds)


def journal_line(name: str) -> str:
    """Return a name as a line of the journal."""
    return json.dumps(name) + "\n"
