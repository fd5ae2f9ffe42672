"""One tracking run: its settings, its result files, its statistics, and `run.json`."""

import json
import platform
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import cv2

from samvideo.errors import SamVideoError
from samvideo.io.base import Closing
from samvideo.io.files import write_atomically
from samvideo.outputs import Outputs
from samvideo.trackers.direction import Direction
from samvideo.trackers.loop import Moment
from samvideo.types import Frame, FrameResult, Prompt, VideoInfo

T = TypeVar("T")
Status = Literal["complete", "interrupted", "failed"]


class Progress(AbstractContextManager["Progress"], Protocol):
    """Shows how far a run is."""

    def advance(self, result: FrameResult) -> None:
        """Count one frame."""


@dataclass(frozen=True)
class RunSettings:
    """The arguments of one `samvideo track`."""

    source: str
    model: str
    options: Mapping[str, str | None]
    out: Path | None
    save: tuple[str, ...]
    prompts: tuple[Prompt, ...] = ()
    prompt_texts: tuple[str, ...] = ()
    direction: Direction = "forward"
    start: Moment | None = None
    end: Moment | None = None
    stride: int = 1
    overwrite: bool = False
    strip_source: bool = False


@dataclass(frozen=True)
class ObjectSummary:
    """One object over a run; `mean_score` is over the frames where it is present, None if there are none."""

    id: int
    frames_present: int
    mean_score: float | None


@dataclass(frozen=True)
class RunSeconds:
    """Time of each stage; decoding and writing run beside the tracker, so the sum may exceed `total`."""

    total: float
    decode: float
    track: float
    write: Mapping[str, float]


@dataclass(frozen=True)
class Summary:
    """The outcome of a run."""

    status: Status
    source: str
    model: str
    frames: int  # frames written
    skipped: int  # broken pieces of the source
    fps: float  # over the whole run
    seconds: RunSeconds
    out: Path
    files: Mapping[str, Path]  # by kind
    objects: tuple[ObjectSummary, ...]  # by ascending id
    error: str | None = None  # message of the first error

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object; `error` only if there is one."""
        files = {kind: str(path) for kind, path in self.files.items()}
        entry = asdict(self) | {"out": str(self.out), "files": files}
        if self.error is None:
            del entry["error"]
        return entry


class ObjectStatistics:
    """Counts, per object, the frames where it is present, and sums its scores there."""

    def __init__(self) -> None:
        self._frames: defaultdict[int, int] = defaultdict(int)
        self._scores: defaultdict[int, float] = defaultdict(float)

    def add(self, result: FrameResult) -> None:
        """Add the result of one frame."""
        for object_id, _, score, present in result.rows():
            self._frames[object_id] += present
            self._scores[object_id] += score * present

    def summaries(self) -> tuple[ObjectSummary, ...]:
        """Return one entry per object, by ascending id."""
        return tuple(
            ObjectSummary(i, n, round(self._scores[i] / n, 4) if n else None)
            for i, n in sorted(self._frames.items())
        )


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


class SourceRecord:
    """What the results of a run record about its source and settings: names, but no folders of this machine.

    `strip_source` omits name, times and audio of the source: frames are numbered from 0, and their times count from
    the first. Size and rate of the video stay. Prompts, ranges, folders and error messages are left out, as they
    contain times, or names of files and cases.
    """

    def __init__(self, settings: RunSettings, info: VideoInfo) -> None:
        self._stripped = settings.strip_source
        self._first: Frame | None = None
        self.info = (
            VideoInfo("video", info.size_wh, info.rate, pixel_aspect=info.pixel_aspect) if self._stripped else info
        )
        self.audio_from = settings.source if self.info.has_audio else None
        self.settings: dict[str, Any] = {key: getattr(settings, key) for key in ("save", "direction", "stride")}
        if not self._stripped:
            options = {key: Path(value).name for key, value in settings.options.items() if value is not None}
            prompts = [_without_folder(text) for text in settings.prompt_texts]
            self.settings |= {"prompts": prompts, "options": options, "start": settings.start, "end": settings.end}

    def frame(self, frame: Frame, result: FrameResult) -> tuple[Frame, FrameResult]:
        """Return the frame and its result as they are recorded."""
        if not self._stripped:
            return frame, result
        self._first = self._first or frame
        index, seconds = frame.index - self._first.index, frame.seconds - self._first.seconds
        return replace(frame, index=index, seconds=seconds), replace(result, index=index, seconds=seconds)

    def error(self, failure: SamVideoError) -> str:
        """Return the message to record for an error."""
        return type(failure).__name__ if self._stripped else str(failure)

    def summary(self, summary: Summary) -> Summary:
        """Return the summary to record in `run.json`."""
        if not self._stripped:
            return summary
        return replace(summary, out=Path(), files={kind: Path(path.name) for kind, path in summary.files.items()})


class Run(Closing):
    """The results of one tracking run: `open`, then `write` every frame, then `finish`.

    Leaving the `with` block finalises the files; `finish` writes `run.json` beside them. A run that is not
    finished has no `run.json`.

    Attributes:
        timer: of the stages "total", "decode", "step" (the tracker, waiting for frames included) and "wait".
        failure: the first error, set by `finish`.
    """

    def __init__(self, record: SourceRecord, outputs: Outputs, model: str, timer: StageTimer) -> None:
        self.timer, self.outputs = timer, outputs
        self.failure: SamVideoError | None = None
        self._record, self._model = record, model
        self._statistics, self._frames = ObjectStatistics(), 0

    @classmethod
    def open(cls, settings: RunSettings, info: VideoInfo, timer: StageTimer | None = None) -> "Run":
        """Open the result files, for a source with this `info`; `timer` is continued. Raises as `Outputs`."""
        record = SourceRecord(settings, info)
        outputs = Outputs(
            settings.out or Path(f"{record.info.name}_tracked"),
            settings.save,
            record.info,
            audio_from=record.audio_from,
            overwrite=settings.overwrite,
        )
        return cls(record, outputs, settings.model, timer or StageTimer())

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Add one frame; see `Outputs.write`."""
        self.outputs.write(*self._record.frame(frame, result))
        self._statistics.add(result)
        self._frames += 1

    def close(self) -> None:
        """See `Outputs.close`."""
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
        recorded = self._record.summary(summary).to_json()
        recorded |= {"settings": self._record.settings, "environment": _environment()}
        try:
            write_atomically(self.outputs.folder / "run.json", json.dumps(recorded, indent=2) + "\n")
        except SamVideoError as error:
            failure = failure or error
        self.failure = failure
        return summary

    def _summary(self, status: Status, failure: SamVideoError | None, skipped: int) -> Summary:
        spent = self.timer.seconds
        tracking = round(spent["step"] - spent["wait"], 3)
        writing = {kind: round(seconds, 3) for kind, seconds in self.outputs.seconds.items()}
        return Summary(
            status=status,
            source=self._record.info.name,
            model=self._model,
            frames=self._frames,
            skipped=skipped,
            fps=round(self._frames / spent["total"], 2) if spent["total"] else 0.0,
            seconds=RunSeconds(round(spent["total"], 3), round(spent["decode"], 3), tracking, writing),
            out=self.outputs.folder,
            files=self.outputs.files,
            objects=self._statistics.summaries(),
            error=None if failure is None else self._record.error(failure),
        )


def _without_folder(prompt: str) -> str:
    """`mask=/a/b.png@3` as `mask=b.png@3`, `/a/prompts.json` as `prompts.json`."""
    kind, equals, place = prompt.rpartition("=")
    return f"{kind}{equals}{Path(place).name}" if kind in ("", "mask") else prompt


def _environment() -> dict[str, str]:
    facts = {"python": platform.python_version(), "machine": platform.platform(), "opencv": cv2.__version__}
    return facts | {name: version(name) for name in ("samvideo", "numpy", "scipy", "av")}
