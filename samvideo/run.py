"""One tracking run: its settings, its result files, its statistics, and `run.json`."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samvideo.errors import SamVideoError
from samvideo.io.source import VideoSource, open_video
from samvideo.io.tracks import STRIPPED_NAME
from samvideo.outputs import Outputs, check_outputs
from samvideo.policies import parse_policy
from samvideo.prompt_syntax import prompt_files
from samvideo.run_base import OpenRun, StageTimer, Status, recorded, summary_entry, write_record
from samvideo.run_folder import (
    JOURNAL,
    RECORD,
    FrameRanges,
    Listed,
    discard_folder,
    files_entry,
    prepare_folder,
    remove_resume,
)
from samvideo.search_settings import SearchSettings
from samvideo.trackers.direction import Direction
from samvideo.trackers.loop import Moment
from samvideo.types import Frame, FrameResult, Prompt, VideoInfo

RESERVED = 3072
"""Bytes by which `run.json` is longer while the run goes on, so that its end can be recorded on a full disk."""


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
    resume: bool = False
    window: tuple[float, float] | None = None
    search: SearchSettings | None = None
    labelled: bool = False  # objects may get labels that `prompts` do not give

    @property
    def revised(self) -> bool:
        """Whether results of earlier frames may change until the end, so that they are written in a second pass."""
        policy = self.options.get("policy")
        return policy is not None and parse_policy(policy).revises > 0

    def open_source(self) -> VideoSource:
        """Open the source; see `open_video`."""
        return open_video(self.source, window=self.window)

    def folder(self, info: VideoInfo) -> Path:
        """Return the folder of the results for a source with this `info`."""
        return self.out or Path(f"{STRIPPED_NAME if self.strip_source else info.name}_tracked")

    def check_results(self, info: VideoInfo, sources: Sequence[Path]) -> None:
        """Raise as `check_outputs` if the results of the source, read from these files, cannot be written."""
        replacing = self.overwrite or self.resume
        check_outputs(self.folder(info), self.save, replacing, sources, prompt_files(self.prompt_texts))

    def record(self) -> dict[str, Any]:
        """Return what `run.json` records of the settings; see `SourceRecord`."""
        entry: dict[str, Any] = {key: getattr(self, key) for key in ("save", "direction", "stride")}
        entry["renumbered"] = False  # in its place, for the source to set
        if self.strip_source:
            return entry
        entry |= {"start": self.start, "end": self.end} | recorded(self.prompt_texts, self.options)
        if self.search is not None:
            entry["search"] = self.search.record()
        if self.window is not None:
            entry["window"] = list(self.window)
        return entry

    def open_run(self, info: VideoInfo, timer: StageTimer, sources: Sequence[Path]) -> OpenRun[Any]:
        """Open the result files; see `Run.open`."""
        return Run.open(self, info, timer, sources)


@dataclass(frozen=True)
class ObjectSummary:
    """One object over a run.

    Attributes:
        id: of the object.
        frames_present: number of frames on which it has a mask.
        mean_score: over these frames, None if there are none.
        first_frame, last_frame: the first and the last of them.
        label: name of its class, if it has one.
    """

    id: int
    frames_present: int
    mean_score: float | None
    label: str | None = None
    first_frame: int | None = None
    last_frame: int | None = None


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

    @property
    def amount(self) -> str:
        """What was done, in words."""
        return f"{self.frames} frames at {self.fps} frames per second"

    def to_json(self) -> dict[str, Any]:
        """See `summary_entry`."""
        return summary_entry(self)


class ObjectStatistics:
    """Counts, per object, the frames where it is present, and sums its scores there; keeps its label."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, int]] = {}
        self._frames: defaultdict[int, int] = defaultdict(int)
        self._scores: defaultdict[int, float] = defaultdict(float)
        self._labels: dict[int, str] = {}

    def add(self, result: FrameResult) -> None:
        """Add the result of one frame."""
        self._labels |= result.labels
        for object_id, _, score, present in result.rows():
            self._frames[object_id] += present
            self._scores[object_id] += score * present
            if present:
                first, last = self._seen.get(object_id, (result.index, result.index))
                self._seen[object_id] = min(first, result.index), max(last, result.index)

    def summaries(self) -> tuple[ObjectSummary, ...]:
        """Return one entry per object, by ascending id."""
        return tuple(
            ObjectSummary(
                i, n, round(self._scores[i] / n, 4) if n else None, self._labels.get(i), *self._seen.get(i, ())
            )
            for i, n in sorted(self._frames.items())
        )


class SourceRecord:
    """What the results of a run record about its source and settings: names, but no folders of this machine.

    `strip_source` omits name, times and audio of the source: with a `start`, frames are numbered and timed from the
    first one tracked, and the tracks say so. Size and rate of the video stay. Prompts, ranges, folders and error
    messages are left out, as they contain times, or names of files and cases.
    """

    def __init__(self, settings: RunSettings, info: VideoInfo) -> None:
        self._stripped = settings.strip_source
        self._first: Frame | None = None
        if self._stripped:
            info = VideoInfo(
                STRIPPED_NAME,
                info.size_wh,
                info.rate,
                pixel_aspect=info.pixel_aspect,
                renumbered=bool(settings.start),
            )
        self.info = info
        self.source = settings.source if self.info.has_audio or "labels" in settings.save else None
        self.settings = settings.record() | {"renumbered": info.renumbered}

    def frame(self, frame: Frame, result: FrameResult) -> tuple[Frame, FrameResult]:
        """Return the frame and its result as they are recorded."""
        if not self.info.renumbered:
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
        return replace(summary, out=Path())


class Run(OpenRun[Summary]):
    """The results of one tracking run: `open`, then as `OpenRun`.

    Its timer has the stages "total", "decode", "step" (the tracker, waiting for frames included) and "wait".
    """

    outputs: Outputs

    def __init__(
        self,
        record: SourceRecord,
        folder: Path,
        settings: RunSettings,
        timer: StageTimer,
        opening: Callable[[], None],
    ) -> None:
        super().__init__(folder, timer)
        self._record, self._model = record, settings.model
        self._kinds, self._earlier = settings.save, Listed.of(folder).frames if settings.resume else FrameRanges()
        self._statistics, self._frames = ObjectStatistics(), 0
        opened = {"status": "running", "source": record.info.name, "model": settings.model}
        self._write_record(opened, self._earlier, reserved=RESERVED)
        opening()
        found = settings.search is not None  # what finds objects may name them
        labelled = settings.labelled or found or any(prompt.label for prompt in settings.prompts)
        self.outputs = Outputs(folder, settings.save, record.info, source=record.source, labelled=labelled)

    @classmethod
    def open(
        cls,
        settings: RunSettings,
        info: VideoInfo,
        timer: StageTimer | None = None,
        sources: Sequence[Path] = (),
        *,
        opening: Callable[[], None] = lambda: None,
    ) -> "Run":
        """Open the result files. Raises as `check_outputs`; nothing has changed then.

        Args:
            settings: where and what to write.
            info: of the source.
            timer: is continued.
            sources: the files of the source.
            opening: called after `run.json` is written, and before the results are.
        """
        record, folder = SourceRecord(settings, info), settings.folder(info)
        settings.check_results(info, sources)
        if not settings.resume:
            prepare_folder(folder)
        try:
            return cls(record, folder, settings, timer or StageTimer(), opening)
        except SamVideoError:
            if not settings.resume:
                discard_folder(folder)
            raise

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Add one frame; see `Outputs.write`."""
        frame, result = self._record.frame(frame, result)
        self.outputs.write(frame, result)
        self._statistics.add(result)
        self._frames += 1

    def _record_end(self, summary: Summary) -> None:
        frames = self.outputs.mask_frames.joined(self._earlier)
        self._write_record(self._record.summary(summary).to_json(), frames)
        (self.folder / JOURNAL).unlink(missing_ok=True)
        if summary.status == "complete":
            remove_resume(self.folder)

    def _write_record(self, entry: dict[str, Any], frames: FrameRanges, reserved: int = 0) -> None:
        entry |= files_entry(self._kinds, frames)
        write_record(self.folder / RECORD, entry | {"settings": self._record.settings}, reserved)

    def _summary(self, status: Status, failure: SamVideoError | None, skipped: int) -> Summary:
        spent = self.timer.seconds
        tracking = round(max(0.0, spent["step"] - spent["wait"]), 3)
        writing = {kind: round(seconds, 3) for kind, seconds in self.outputs.seconds.items()}
        return Summary(
            status=status,
            source=self._record.info.name,
            model=self._model,
            frames=self._frames,
            skipped=skipped,
            fps=round(self._frames / spent["total"], 2) if spent["total"] else 0.0,
            seconds=RunSeconds(round(spent["total"], 3), round(spent["decode"], 3), tracking, writing),
            out=self.folder,
            files=self.files,
            objects=self._statistics.summaries(),
            error=None if failure is None else self._record.error(failure),
        )
