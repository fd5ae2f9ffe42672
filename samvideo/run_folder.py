"""The folder of a run: what an earlier run left there, and whether a new one may write there.

Only files that the `run.json` of the folder lists are ever removed. A run lists its files before it writes them and
keeps the frames of its masks in a journal until `run.json` holds them, so this is true of a killed run as well.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from samvideo.errors import ConfigError, OutputError
from samvideo.io.files import check_empty, check_writable, unfinished, writing
from samvideo.io.images import SUFFIXES
from samvideo.io.schema import read_json

RECORD = "run.json"
MASKS = "masks"
JOURNAL = ".masks.txt"
"""The numbers of the frames whose masks are written, one a line, while the run goes on."""
RESUME = ".resume"
RESUME_FILES = ("settings.json", "steps.jsonl", "state")
FILES: Mapping[str, tuple[str, ...]] = {
    "overlay": ("overlay.mp4",),
    "masks": (),  # masks/00000.png and so on
    "rle": ("tracks.json", "tracks.jsonl"),
    "csv": ("tracks.csv",),
    "labels": ("labels.nii.gz",),
}
RESULT_NAMES = (RECORD, MASKS, JOURNAL, RESUME, *chain.from_iterable(FILES.values()))
_MASK_NAME = re.compile(r"(\d{5}|[1-9]\d{5,17})\.png", re.ASCII)

Status = Literal["running", "complete", "interrupted", "failed"]
Name = Literal["overlay.mp4", "tracks.json", "tracks.jsonl", "tracks.csv", "labels.nii.gz", "masks"]
Index = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class FolderRecord:
    """What `run.json` states about the files beside it.

    Attributes:
        status: "running" also of a run that was killed.
        files: names by kind of result.
        mask_frames: the frames that have a mask image, as (first, last, step).
    """

    status: Status
    files: dict[str, list[Name]]
    mask_frames: list[tuple[Index, Index, Annotated[int, Field(ge=1)]]]


_SCHEMA = TypeAdapter(FolderRecord)


@dataclass
class FrameRanges:
    """Numbers of frames as (first, last, step), which takes constant memory for those at equal distances."""

    ranges: list[tuple[int, int, int]] = field(default_factory=list)

    def add(self, index: int) -> None:
        """Add a frame."""
        if self.ranges:
            first, last, step = self.ranges[-1]
            if index > last and (first == last or index - last == step):
                self.ranges[-1] = first, index, index - last
                return
        if index not in self:
            self.ranges.append((index, index, 1))

    def __contains__(self, index: int) -> bool:
        return any(first <= index <= last and (index - first) % step == 0 for first, last, step in self.ranges)

    def joined(self, earlier: "FrameRanges") -> "FrameRanges":
        """Return these and those of the earlier ones that are not part of one of these."""
        extra = [entry for entry in earlier.ranges if not any(_covers(own, entry) for own in self.ranges)]
        return FrameRanges(self.ranges + extra)


def _covers(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    aligned = other[2] % one[2] == 0 or other[0] == other[1]
    return one[0] <= other[0] and other[1] <= one[1] and (other[0] - one[0]) % one[2] == 0 and aligned


@dataclass(frozen=True)
class Listed:
    """The files of the run that a folder holds."""

    status: Status | None = None  # None: no run
    names: frozenset[str] = frozenset()
    frames: FrameRanges = field(default_factory=FrameRanges)

    @classmethod
    def of(cls, folder: Path) -> "Listed":
        """Read `run.json` and the journal of a folder. Raises ConfigError if `run.json` is not of a run."""
        path = folder / RECORD
        if not path.exists():
            return cls()
        try:
            record = read_json(path, _SCHEMA, "the record of a run", ConfigError)
        except ConfigError as error:
            raise ConfigError(
                f"{error}: it was not written by this version of `samvideo track`, so that nothing in {folder} is "
                "replaced; choose another folder with -o"
            ) from error
        names = {RECORD, *chain.from_iterable(record.files.values())}
        frames = FrameRanges(list(record.mask_frames))
        with suppress(OSError):
            for line in (folder / JOURNAL).read_text("ascii", errors="replace").split("\n")[:-1]:
                if line.isdecimal() and len(line) < 19:
                    frames.add(int(line))
        return cls(record.status, frozenset(names), frames)

    def holds(self, path: Path) -> bool:
        """Whether a file of the folder is one of them, or one of them half-written."""
        name = path.name
        if name == JOURNAL or path.parent.name == RESUME:
            return self.status is not None
        if path.parent.name == MASKS and _MASK_NAME.fullmatch(_finished(name)):
            return int(_finished(name).removesuffix(".png")) in self.frames
        return _finished(name) in self.names


def _finished(name: str) -> str:
    """The name of the file that is written under the name of `unfinished`, or by `VideoWriter`."""
    hidden = name.startswith(".") and name.endswith((".part", ".whole"))
    return name[1:].rpartition(".")[0] if hidden else name


def _results(folder: Path) -> Iterator[Path]:
    """Yield what has the name of a result file, of this run or of the user, finished or not."""
    names = RECORD, JOURNAL, *chain.from_iterable(FILES.values()), *(f"{RESUME}/{name}" for name in RESUME_FILES)
    for path in (folder / name for name in names):
        yield from filter(os.path.lexists, (path, unfinished(path), path.with_name(f".{path.name}.whole")))
    masks = folder / MASKS
    if masks.is_dir():
        yield from (path for path in masks.iterdir() if _MASK_NAME.fullmatch(_finished(path.name)))


def holds_results(folder: Path) -> bool:
    """Whether a folder holds more of a run than the `run.json` that it begins with."""
    names = {path.name for path in _results(folder) if path.name == _finished(path.name)}
    return bool(names - {RECORD}) or Listed.of(folder).status not in (None, "running")


def check_folder(folder: Path, overwrite: bool, sources: Sequence[Path] = (), prompts: Sequence[Path] = ()) -> None:
    """Check that a run may write into a folder; nothing is changed.

    Args:
        folder: need not exist.
        overwrite: whether the files of an earlier run there may be replaced.
        sources: the files of the video.
        prompts: the files that prompts were read from.

    Raises:
        ConfigError: it holds files and `overwrite` is off, or files with the names of results that its `run.json`
            does not list; or one of the files that are read lies where results are written.
        OutputError: it cannot be written.
    """
    with writing(folder):
        _check_writable(folder)
        _check_sources(folder, sources, prompts)
        if not overwrite and (folder / RESUME / RESUME_FILES[0]).is_file():
            raise ConfigError(
                f"{folder} holds a run that did not end: go on with --resume, replace it with --overwrite, or "
                "choose another folder with -o"
            )
        check_empty(folder, overwrite)
        listed = Listed.of(folder)
        for path in _results(folder):
            if path.name == _finished(path.name) and (path.is_dir() or not listed.holds(path)):
                raise ConfigError(
                    f"{path} would be replaced, but is not among the files of an earlier run that "
                    f"{folder / RECORD} lists: move it away, or choose another folder with -o"
                )


def _check_writable(folder: Path) -> None:
    """Raise OutputError if the folder cannot be made or written, ConfigError if files have the names of folders."""
    check_writable(folder)
    for path in (folder / MASKS, folder / RESUME):
        if os.path.lexists(path) and not path.is_dir():
            raise ConfigError(f"{path} is not a folder: move it away, or choose another folder with -o")
        check_writable(path)


def _check_sources(folder: Path, sources: Sequence[Path], prompts: Sequence[Path]) -> None:
    out, masks = folder.resolve(), (folder / MASKS).resolve()
    taken = {_identity(path) for path in _results(folder) if path.exists()}
    for number, path in enumerate((*sources, *prompts)):
        parents = path.resolve().parent, path.parent.resolve()
        is_source = number < len(sources)
        beside = is_source and out in parents and path.suffix.lower() in SUFFIXES
        if masks in parents or beside or (path.exists() and _identity(path) in taken):
            raise ConfigError(
                f"the {'source' if is_source else 'prompt'} {path} lies where the results are written ({folder}): "
                "choose another folder with -o"
            )


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def prepare_folder(folder: Path) -> None:
    """Make the folder, and remove what an earlier run that it lists has written; `check_folder` comes before.

    Its `run.json` stays, and is to be replaced next. Raises OutputError if the folder cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        listed = Listed.of(folder)
        earlier = [path for path in _results(folder) if path.name != RECORD and listed.holds(path)]
        for path in earlier:
            path.unlink()
        if any(path.parent.name == MASKS for path in earlier):
            with suppress(OSError):  # the user has put something there
                (folder / MASKS).rmdir()
        remove_resume(folder)


def discard_folder(folder: Path) -> None:
    """Remove a run of which nothing was written, and the folder if it is empty then."""
    with suppress(OSError, OutputError):
        prepare_folder(folder)
        (folder / RECORD).unlink()
        (folder / MASKS).rmdir()
    with suppress(OSError):
        folder.rmdir()


def remove_resume(folder: Path) -> None:
    """Remove what a run keeps to be resumed."""
    for name in RESUME_FILES:
        for path in (folder / RESUME / name, unfinished(folder / RESUME / name)):
            path.unlink(missing_ok=True)
    with suppress(OSError):  # it does not exist, or the user put something there
        (folder / RESUME).rmdir()


def files_entry(kinds: Iterable[str], frames: FrameRanges) -> dict[str, Any]:
    """Return what `FolderRecord` reads, for `run.json`."""
    names = {kind: list(FILES[kind]) or [MASKS] for kind in kinds}
    return {"files": names, "mask_frames": [list(entry) for entry in frames.ranges]}
