"""Tracks many sources with the same settings, each into a folder of its own, by the workers of a pool.

A worker loads the model once and then tracks source after source. A source that fails does not end the others. A
call that was interrupted or killed can be resumed: what is complete stays as it is, and unfinished runs go on, see
`samvideo.resume`.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from glob import glob, has_magic
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from samvideo.errors import ConfigError, SamVideoError, VideoError
from samvideo.evaluation.shard import Failure, Maker, Pool, enter_folder
from samvideo.io.container import MOVIES, is_address
from samvideo.io.images import SUFFIXES, animation_of, find_images, natural_key
from samvideo.io.mask_pictures import FROM_FILE, MaskRule
from samvideo.io.schema import read_json
from samvideo.io.source import find_stills
from samvideo.io.volumes import is_volume, volume_name
from samvideo.outputs import default_kinds
from samvideo.prompt_syntax import parse_prompts
from samvideo.run import RunSettings
from samvideo.run_folder import RECORD, Status, check_folder
from samvideo.runner import check_options, run_tracking
from samvideo.trackers.base import Tracker
from samvideo.types import FrameResult

NAME = "{name}"
"""Stands for the name of the source in prompts that are read from files."""


@dataclass(frozen=True)
class BulkRun:
    """What is tracked, as the `Work` of a pool.

    Attributes:
        settings: of every run. Its source and folder are set for each run, and its prompts are read from the texts.
        sources: paths and patterns by name, as from `find_sources`.
        out: the folder with the folders of all runs, each called NAME_tracked; or that of the run, if `is_single`.
        save: the kinds of results, None for all that a source has.
        rule: for masks of prompts.
        threads: of each worker, None for as many as the libraries use on their own.
        folder: where relative paths begin.
        is_single: whether `out` is the folder of the only run.
    """

    settings: RunSettings
    sources: Mapping[str, str]
    out: Path
    save: tuple[str, ...] | None = None
    rule: MaskRule = FROM_FILE
    threads: int | None = None
    folder: Path = Path()
    is_single: bool = False

    def open(self) -> None:
        """See `enter_folder`."""
        enter_folder(self.folder)

    def run(self, dataset: None, tracker: Tracker, name: str) -> None:
        """Track one source. A run that is there, of this call or of one to resume, goes on."""
        settings = self.settings_of(name)
        begun = not settings.overwrite and (self.folder_of(name) / RECORD).is_file()
        prompts = tuple(parse_prompts(list(settings.prompt_texts), self.rule))
        tracker.reset()
        summary, failure = run_tracking(
            replace(settings, prompts=prompts, resume=begun), lambda: tracker, lambda name, total: _NoProgress()
        )
        if failure is not None:
            raise failure
        if summary is None or summary.status == "interrupted":
            raise KeyboardInterrupt

    def folder_of(self, name: str) -> Path:
        """Return the folder of a run."""
        return self.out if self.is_single else self.out / f"{name}_tracked"

    def settings_of(self, name: str) -> RunSettings:
        """Return the settings of a run, its prompts as texts only."""
        source = self.sources[name]
        save = tuple(default_kinds(source)) if self.save is None else self.save
        texts = tuple(_with_name(text, name) for text in self.settings.prompt_texts)
        return replace(self.settings, source=source, out=self.folder_of(name), save=save, prompt_texts=texts)

    def is_finished(self, name: str) -> bool:
        """Return whether a source need not be tracked again.

        Raises:
            ConfigError: its folder holds anything else than a run to be resumed or overwritten.
            OutputError: its folder cannot be written.
        """
        folder, settings = self.folder_of(name), self.settings_of(name)
        record = None if settings.overwrite else RunRecord.read(folder)
        complete = record is not None and record.status == "complete"
        if complete and not settings.resume:
            raise ConfigError(
                f"{folder} holds a complete run: --resume leaves it as it is, --overwrite replaces it"
            )
        if not settings.resume:
            check_folder(folder, settings.overwrite)
        if record is None or not complete:
            return False
        expected = json.loads(json.dumps(settings.record()))
        if (record.source, record.model, record.settings) != (name, settings.model, expected):
            raise ConfigError(
                f"{folder} holds a complete run with other settings: give the same arguments, replace it with "
                "--overwrite, or choose another folder with -o"
            )
        return True


@dataclass(frozen=True)
class RunRecord:
    """What a bulk run reads of a `run.json`."""

    status: Status
    source: str
    model: str
    settings: dict[str, Any]
    frames: int = 0
    fps: float = 0.0

    @classmethod
    def read(cls, folder: Path) -> "RunRecord | None":
        """Read the record of a folder, None if it has none; ConfigError if it cannot be read."""
        path = folder / RECORD
        return read_json(path, _RECORD, "the record of a run", ConfigError) if path.is_file() else None


_RECORD = TypeAdapter(RunRecord)
Ended = Literal["complete", "failed", "interrupted", "waiting"]


@dataclass(frozen=True)
class Outcome:
    """How one run of many ended.

    Attributes:
        source: name of the source.
        out: folder of the run.
        status: "waiting" if it was not begun.
        earlier: whether it was complete before.
        frames, fps: as in `run.json`.
        failure: the error that ended it.
    """

    source: str
    out: Path
    status: Ended
    earlier: bool = False
    frames: int = 0
    fps: float = 0.0
    failure: Failure | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object; `error` only if there is one."""
        entry: dict[str, Any] = {"source": self.source, "status": self.status, "out": str(self.out)}
        entry |= {"frames": self.frames, "fps": self.fps, "earlier": self.earlier}
        return entry | ({} if self.failure is None else {"error": self.failure.message})


def track_all(
    work: BulkRun, make: Maker, pool: Pool, progress: Callable[[str, int, int], None]
) -> tuple[list[Outcome], bool]:
    """Track all sources. Returns an outcome for each, in their order, and whether a signal ended the call.

    Args:
        work: what is tracked.
        make: creates the tracker of a worker.
        pool: the workers.
        progress: called with the name of a source that has ended, their number, and that of all.

    Raises:
        ConfigError: settings contradict each other.
        SamVideoError: the tracker cannot be created.
    """
    check_options(work.settings)
    if work.settings.strip_source and not work.is_single:
        raise ConfigError(
            "the folders of several sources have their names, which --strip-source omits: track the sources one by "
            "one, each with -o"
        )
    failures: dict[str, Failure] = {}
    earlier: set[str] = set()
    missing: list[str] = []
    interrupted = False
    for name in work.sources:
        try:
            (earlier.add if work.is_finished(name) else missing.append)(name)
        except SamVideoError as error:
            failures[name] = Failure.of(error)
    done = set(earlier)
    progress("", len(done) + len(failures), len(work.sources))
    try:
        for name, failure in pool(work, make, missing) if missing else ():
            done.add(name)
            if failure is not None:
                failures[name] = failure
            progress(name, len(done | failures.keys()), len(work.sources))
    except KeyboardInterrupt:
        interrupted = True
    return [_outcome(work, name, failures.get(name), done, name in earlier) for name in work.sources], interrupted


def _outcome(work: BulkRun, name: str, failure: Failure | None, done: Collection[str], earlier: bool) -> Outcome:
    folder = work.folder_of(name)
    if failure is not None and name not in done:  # refused: what is in its folder is not of this call
        return Outcome(name, folder, "failed", failure=failure)
    record = RunRecord.read(folder)
    status: Ended = "failed" if failure else "complete"
    if name not in done:
        begun = record is not None and record.status in ("running", "interrupted")
        status = "interrupted" if begun else "waiting"
    frames, fps = (0, 0.0) if record is None or status == "waiting" else (record.frames, record.fps)
    return Outcome(name, folder, status, earlier, frames, fps, failure)


def is_bulk(texts: Sequence[str]) -> bool:
    """Return whether these are many sources: several, or a pattern of videos or folders, even with one match."""
    return len(texts) > 1 or bool(_matches(texts[0]))


def find_sources(texts: Sequence[str]) -> dict[str, str]:
    """Return the sources that these paths and patterns stand for, by name.

    A pattern stands for the videos and folders that match; one that matches images is one source.

    Raises:
        ConfigError: one is no file and no folder, one is a single image, one is a pattern of images and videos, or
            two have the same name.
        VideoError: nothing matches a pattern.
    """
    found: dict[str, str] = {}
    places: dict[str, str] = {}
    for source in (match for text in texts for match in _matches(text) or [text]):
        _check_source(source, len(texts) > 1)
        name = _name_of(source)
        if (other := places.setdefault(name.casefold(), source)) != source or name in found:
            raise ConfigError(
                f"the results of {other} and {source} would both go to {name}_tracked: rename one, or track them "
                "in two calls with different -o"
            )
        found[name] = source
    return found


def _matches(text: str) -> list[str]:
    path = Path(text).expanduser()
    if is_address(text) or not has_magic(text) or path.exists():
        return []
    found = [Path(match) for match in glob(str(path), recursive=True)]  # noqa: PTH207 (Path.glob takes no absolute pattern)
    found.sort(key=lambda match: (str(match.parent), natural_key(match)))
    if images := find_images(found):
        _check_images_only(text, images[0], found)
        return []
    return [str(match) for match in found]


def _check_images_only(text: str, image: Path, found: Sequence[Path]) -> None:
    """Raise ConfigError for a pattern of images, which are the frames of one source, that also matches others."""
    for match in found:
        if match.is_dir() or match.suffix.lower() in MOVIES or is_volume(match):
            raise ConfigError(
                f"{text} matches an image, {image}, and a {'folder' if match.is_dir() else 'video'}, {match}: give "
                "a pattern of only one kind, such as '*.mp4', or the sources one by one"
            )


def _check_source(text: str, is_one_of_many: bool) -> None:
    path = Path(text).expanduser()
    if text == "-" or is_address(text) or (text.isdecimal() and not path.exists()):
        raise ConfigError(
            f"several sources are files and folders: track {text} in a call of its own"
            if is_one_of_many
            else f"sources on a cluster are files and folders: track {text} without --ray"
        )
    if path.suffix.lower() in SUFFIXES and path.is_file() and animation_of(path) is None:
        raise ConfigError(
            f"{text} is one image: if images are the frames of a video, give their folder, or quote the pattern so "
            "that the shell does not expand it"
        )
    if has_magic(text) and not path.exists() and not glob(str(path), recursive=True):  # noqa: PTH207 (as in _matches)
        raise VideoError(f"nothing matches {text}: check the spelling and the folder you are in")


def _name_of(text: str) -> str:
    """The name that the source has when it is opened."""
    path = Path(text).expanduser()
    if path.is_dir():
        return path.resolve().name
    if has_magic(text) and not path.exists():
        return find_stills(path)[1]
    return volume_name(path) if is_volume(path) else path.stem


def _with_name(text: str, name: str) -> str:
    return text.replace(NAME, name) if has_name(text) else text


def has_name(text: str) -> bool:
    """Return whether a prompt is read from a file that is another one for each source."""
    return NAME in text and (text.lower().endswith(".json") or text.startswith("mask="))


class _NoProgress:
    """Shows nothing; a `Progress`."""

    def __enter__(self) -> "_NoProgress":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def advance(self, result: FrameResult) -> None:
        """Count one frame."""
