"""One tracking run from source to files, with a stop at any frame and the time of every stage."""

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, TypeVar

import cv2

from samvideo.errors import ConfigError, SamVideoError
from samvideo.interrupt import Interrupt
from samvideo.io.prefetch import prefetch
from samvideo.io.source import VideoSource, clip, open_video
from samvideo.outputs import Anonymous, Outputs
from samvideo.trackers.base import Tracker
from samvideo.trackers.direction import Direction, track_all_directions
from samvideo.trackers.loop import Moment, check_prompts, place_prompts
from samvideo.trackers.schedule import PromptSchedule, propagate
from samvideo.types import FrameResult, Prompt, VideoInfo

T = TypeVar("T")


class Progress(AbstractContextManager["Progress"], Protocol):
    """What the run reports to."""

    def advance(self, result: FrameResult) -> None:
        """One frame is done."""


@dataclass(frozen=True)
class RunSettings:
    """The arguments of one `samvideo track`."""

    source: str
    prompts: tuple[Prompt, ...]
    prompt_texts: tuple[str, ...]
    model: str
    options: Mapping[str, str | None]
    direction: Direction
    out: Path | None
    save: tuple[str, ...]
    start: Moment | None
    end: Moment | None
    stride: int
    overwrite: bool
    strip_source: bool = False


class Tally:
    """Counts over the frames of a run: per object the frames it was seen in and its mean score there."""

    def __init__(self) -> None:
        self._frames: dict[int, int] = {}
        self._scores: dict[int, float] = {}

    def add(self, result: FrameResult) -> None:
        """One frame is done."""
        for object_id, score, present in zip(result.object_ids, result.scores, result.present, strict=True):
            self._frames[object_id] = self._frames.get(object_id, 0) + int(present)
            self._scores[object_id] = self._scores.get(object_id, 0.0) + float(score) * int(present)

    def objects(self) -> list[dict[str, Any]]:
        """One entry per object, in order of id."""
        return [
            {"id": i, "frames_present": n, "mean_score": round(self._scores[i] / n, 4) if n else None}
            for i, n in sorted(self._frames.items())
        ]


class Clock:
    """Seconds spent in each stage."""

    def __init__(self) -> None:
        self.begin = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def each(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """The same items; the time to get each counts for the stage."""
        iterator = iter(items)
        while True:
            begin = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                spent = time.perf_counter() - begin
                self.seconds[stage] = self.seconds.get(stage, 0.0) + spent
            yield item


def run_tracking(
    settings: RunSettings,
    make_tracker: Callable[[], Tracker],
    progress: Callable[[str, int | None], Progress],
) -> tuple[dict[str, Any], SamVideoError | None]:
    """Run, and return the summary together with the error that ended the run early, if one did.

    Args:
        settings: what to do.
        make_tracker: called once source and prompts are known to be good; it may take long.
        progress: called with the source's name and its expected number of frames.

    Raises:
        SamVideoError: before the first frame; nothing was written then.
    """
    with open_video(settings.source) as video:
        check_prompts(settings.prompts, video.info, start=settings.start, end=settings.end)
        _check_direction(settings)
        tracker = make_tracker()
        clock, tally = Clock(), Tally()
        outputs = open_outputs(settings, video.info)
        with progress(video.info.name, _expected_frames(video, settings)) as bar:
            sink = anonymous(outputs, settings)
            status, failure = _loop(settings, video, tracker, sink, tally, bar, clock)
        return conclude(settings, video, outputs, tally, clock, status, failure)


def open_outputs(settings: RunSettings, info: VideoInfo) -> Outputs:
    """The files of a run; raises as `Outputs` does."""
    info = Anonymous.info(info) if settings.strip_source else info
    return Outputs(
        settings.out or Path(f"{info.name}_tracked"),
        settings.save,
        info,
        audio_from=Path(settings.source) if info.has_audio else None,
        overwrite=settings.overwrite,
    )


def anonymous(outputs: Outputs, settings: RunSettings) -> Outputs | Anonymous:
    """Where results go: through a sieve when the source shall not be told."""
    return Anonymous(outputs) if settings.strip_source else outputs


def conclude(
    settings: RunSettings,
    video: VideoSource,
    outputs: Outputs,
    tally: Tally,
    clock: Clock,
    status: str,
    failure: SamVideoError | None,
) -> tuple[dict[str, Any], SamVideoError | None]:
    """Write `run.json` beside the closed outputs; the summary, and the first error of the run if there was one."""
    summary = _summary(settings, video, outputs, clock, status)
    summary["objects"] = tally.objects()
    if failure is not None:
        summary["error"] = type(failure).__name__ if settings.strip_source else str(failure)
    told = summary
    if settings.strip_source:  # folders may be named after cases
        told = summary | {"out": ".", "files": {kind: path.name for kind, path in outputs.files.items()}}
    try:
        outputs.describe(**told, settings=_arguments(settings), environment=_environment())
    except SamVideoError as error:
        failure = failure or error
    return summary, failure


def _loop(
    settings: RunSettings,
    video: VideoSource,
    tracker: Tracker,
    outputs: Outputs | Anonymous,
    tally: Tally,
    bar: Progress,
    clock: Clock,
) -> tuple[str, SamVideoError | None]:
    """Track until the end, an error or a signal; the files are finalised in every case."""
    forward = settings.direction == "forward"
    failure: SamVideoError | None = None
    with Interrupt() as interrupt:

        def goes_on(result: FrameResult) -> bool:
            bar.advance(result)
            return not interrupt.requested

        try:
            decoded = clock.each("decode", clip(video, settings.start, settings.end, settings.stride))
            with outputs, closing(prefetch(decoded)) as ahead:
                if forward:
                    frames = clock.each("wait", interrupt.awaited(ahead))
                    steps = propagate(frames, tracker, PromptSchedule(settings.prompts, settings.stride))
                else:
                    placed = place_prompts(settings.prompts, video)
                    steps = track_all_directions(tracker, video, placed, settings.direction, goes_on)
                for frame, result in clock.each("step", steps):
                    outputs.write(frame, result)
                    tally.add(result)
                    if forward and not goes_on(result):
                        break
        except SamVideoError as error:
            failure = error
        except KeyboardInterrupt:
            interrupt.requested = True
    status = "failed" if failure else "interrupted" if interrupt.requested else "complete"
    return status, failure


def _check_direction(settings: RunSettings) -> None:
    ranged = settings.start is not None or settings.end is not None or settings.stride != 1
    if settings.direction != "forward" and ranged:
        raise ConfigError(
            f"direction {settings.direction} goes over the whole video: leave --start, --end and --stride out"
        )


def _expected_frames(video: VideoSource, settings: RunSettings) -> int | None:
    """How many frames will come, as far as the header tells."""
    info = video.info
    first, last = (
        round(moment * info.rate) if isinstance(moment, float) else moment
        for moment in (settings.start, settings.end)
    )
    last = last if info.frame_count is None else min(last or info.frame_count, info.frame_count)
    return None if last is None else max(0, -(-(last - (first or 0)) // settings.stride))


def _summary(
    settings: RunSettings, video: VideoSource, outputs: Outputs, clock: Clock, status: str
) -> dict[str, Any]:
    total = time.perf_counter() - clock.begin
    spent = clock.seconds
    return {
        "status": status,
        "source": Anonymous.NAME if settings.strip_source else video.info.name,
        "model": settings.model,
        "frames": outputs.frames,
        "skipped": video.skipped,
        "fps": round(outputs.frames / total, 2),
        # decode and write run beside the tracker, so the stages may add up to more than the total
        "seconds": {
            "total": round(total, 3),
            "decode": round(spent.get("decode", 0.0), 3),
            "track": round(spent.get("step", 0.0) - spent.get("wait", 0.0), 3),
            "write": {kind: round(seconds, 3) for kind, seconds in outputs.seconds.items()},
        },
        "out": str(outputs.folder),
        "files": {kind: str(path) for kind, path in outputs.files.items()},
    }


def _arguments(settings: RunSettings) -> dict[str, Any]:
    # Names only: a result that is passed on should not tell where things lie on this machine.
    if settings.strip_source:  # prompts and ranges tell times and names of files
        return {"save": settings.save, "direction": settings.direction, "stride": settings.stride}
    return {
        "prompts": [_without_folder(text) for text in settings.prompt_texts],
        "save": settings.save,
        "options": {key: Path(value).name for key, value in settings.options.items() if value is not None},
        "direction": settings.direction,
        "start": settings.start,
        "end": settings.end,
        "stride": settings.stride,
    }


def _without_folder(prompt: str) -> str:
    """`mask=/a/b.png@3` as `mask=b.png@3`, `/a/prompts.json` as `prompts.json`."""
    kind, equals, place = prompt.rpartition("=")
    return f"{kind}{equals}{Path(place).name}" if kind in ("", "mask") else prompt


def _environment() -> dict[str, str]:
    packages = {name: version(name) for name in ("samvideo", "numpy", "scipy", "av")}
    return {
        "python": platform.python_version(),
        "machine": platform.platform(),
        **packages,
        "opencv": cv2.__version__,
    }
