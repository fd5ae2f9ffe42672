"""What the runs over videos and over images share: their interface, the time of their stages, what they record."""

import json
import platform
import time
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

import cv2

from samvideo.errors import SamVideoError
from samvideo.io.base import Closing
from samvideo.io.files import write_over, writing
from samvideo.types import Frame, FrameResult

T = TypeVar("T")
Summary = TypeVar("Summary", bound="RunSummary")
Status = Literal["complete", "interrupted", "failed"]


class Progress(AbstractContextManager["Progress"], Protocol):
    """Shows how far a run is."""

    def advance(self, result: FrameResult) -> None:
        """Count one frame."""


class RunSummary(Protocol):
    """The outcome of a command that writes results."""

    @property
    def status(self) -> Status:
        """How it ended."""

    @property
    def files(self) -> Mapping[str, Path]:
        """Path of each result, by kind."""

    @property
    def amount(self) -> str:
        """What was done, in words."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""


class StageTimer:
    """Sums the seconds spent in each stage."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Count the time of the block for the stage."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - begin

    def each(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """Yield the items; the time that getting each one takes counts for the stage."""
        iterator = iter(items)
        while True:
            with self.measure(stage):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item


class ResultFiles(Closing):
    """The files of some kinds of results; subclasses write them.

    Args:
        folder: where they are.
        files: path of the result, by kind.
        unit: of what is written, in messages.

    Attributes:
        folder, files: as given.
        seconds: time spent writing, by kind.

    Raises:
        OutputError: a file cannot be written, also by `close`.
    """

    def __init__(self, folder: Path, files: Mapping[str, Path], unit: str) -> None:
        self.folder, self.files, self._unit = folder, files, unit
        self.seconds = dict.fromkeys(files, 0.0)
        self._stack = ExitStack()

    @contextmanager
    def _writing(self, kind: str) -> Iterator[None]:
        begin = time.perf_counter()
        with writing(self.files[kind], f"the {self._unit} before"):
            yield
        self.seconds[kind] += time.perf_counter() - begin

    def close(self) -> None:
        """Write everything that is queued and finalise every file, also if one of them fails."""
        with writing(self.folder):
            self._stack.close()


class OpenRun(Closing, Generic[Summary]):
    """The results of a run while they are written: `write` every frame, then `finish`.

    `run.json` lists the files from the start, with the status "running". Leaving the `with` block finalises the
    files; `finish` records how the run ended.

    Attributes:
        folder: of the results.
        timer: of the stages.
        failure: the first error, set by `finish`.
    """

    outputs: ResultFiles

    def __init__(self, folder: Path, timer: StageTimer) -> None:
        self.folder, self.timer = folder, timer
        self.failure: SamVideoError | None = None

    @property
    def files(self) -> Mapping[str, Path]:
        """Path of each result, by kind."""
        return self.outputs.files

    @abstractmethod
    def write(self, frame: Frame, result: FrameResult) -> None:
        """Add one frame."""

    def close(self) -> None:
        """See `ResultFiles.close`."""
        self.outputs.close()

    def finish(self, status: Status, failure: SamVideoError | None = None, *, skipped: int = 0) -> Summary:
        """Finalise the result files, write `run.json` and return the summary.

        Its status is "failed" if there is a `failure`, the error that ended the run. An error of this method is not
        raised; the first one is in the attribute `failure`.
        """
        try:
            self.close()
        except SamVideoError as error:
            failure = failure or error
        summary = self._summary("failed" if failure else status, failure, skipped)
        try:
            self._record_end(summary)
        except SamVideoError as error:
            failure = failure or error
        self.failure = failure
        return summary

    @abstractmethod
    def _summary(self, status: Status, failure: SamVideoError | None, skipped: int) -> Summary:
        """The outcome of the run."""

    @abstractmethod
    def _record_end(self, summary: Summary) -> None:
        """Write `run.json` and remove what is not needed any more."""


def end_run(
    run: OpenRun[Summary] | None, failure: SamVideoError | None, interrupted: bool, skipped: int
) -> tuple[Summary | None, SamVideoError | None]:
    """Finish a run, and return its summary and its first error; None for one that a signal ended before its start.

    Raises:
        SamVideoError: the failure of a run that was not opened.
    """
    if run is None:
        if failure is not None:
            raise failure
        return None, None
    summary = run.finish("interrupted" if interrupted else "complete", failure, skipped=skipped)
    return summary, run.failure


def recorded(prompt_texts: Iterable[str], options: Mapping[str, str | None]) -> dict[str, Any]:
    """Return prompts and options as `run.json` records them: names of files, but no folders of this machine."""
    return {
        "prompts": [_without_folder(text) for text in prompt_texts],
        "options": {key: _option(key, value) for key, value in options.items() if value is not None},
    }


def write_record(path: Path, entry: Mapping[str, Any], reserved: int = 0) -> None:
    """Write `run.json`, with the versions of what results depend on; longer by `reserved` bytes.

    Raises:
        OutputError: it cannot be written.
    """
    content = {**entry, "environment": _environment()}
    # Names of files may hold bytes that are not text, and JSON with those cannot be read again.
    content = json.loads(json.dumps(content, ensure_ascii=False).encode(errors="replace"))
    write_over(path, json.dumps(content, indent=2) + " " * reserved + "\n")


def summary_entry(summary: Any) -> dict[str, Any]:
    """Return the JSON object of a `RunSummary`, a dataclass; `error` and labels only if there are some."""
    entry = asdict(summary, dict_factory=without_missing_labels) | {"out": str(summary.out)}
    entry["files"] = {kind: str(path) for kind, path in summary.files.items()}
    if summary.error is None:
        del entry["error"]
    return entry


def without_missing_labels(fields: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of a dataclass as a dict, without a `label` of None."""
    return {name: value for name, value in fields if name != "label" or value is not None}


def _option(key: str, value: str) -> str:
    """The value of an option without folders: `/a/b.pt` as `b.pt`, as a first mask `sam=/a/b.pt` as `sam=b.pt`."""
    name, equals, file = value.partition("=") if key == "first_mask" else ("", "", value)
    return f"{name}{equals}{','.join(Path(part).name for part in file.split(','))}"


def _without_folder(prompt: str) -> str:
    """`mask=/a/b.png@3` as `mask=b.png@3`, `/a/prompts.json` as `prompts.json`."""
    if prompt.lower().endswith(".json"):
        return Path(prompt).name
    kind, equals, place = prompt.partition("=")
    return f"{kind}{equals}{Path(place).name}" if kind == "mask" else prompt


def _environment() -> dict[str, str]:
    facts = {"python": platform.python_version(), "machine": platform.platform(), "opencv": cv2.__version__}
    return facts | {name: version(name) for name in ("samvideo", "numpy", "scipy", "av")}
