"""Tracks a source into result files, with a stop at any frame and the time of every stage."""

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from samvideo.errors import ConfigError, PromptError, SamVideoError
from samvideo.interrupt import Interrupt
from samvideo.io.base import Closing
from samvideo.io.locks import folder_lock
from samvideo.io.prefetch import prefetch
from samvideo.io.source import VideoSource, clip
from samvideo.object_prompts import group_tracked, number_prompts
from samvideo.outputs import check_ids, check_outputs
from samvideo.prompt_syntax import prompt_files
from samvideo.resume import RecordedTracker, StepRecord, same_settings
from samvideo.run import Run, RunSettings, Summary
from samvideo.run_base import Progress, StageTimer, end_run
from samvideo.run_folder import RECORD, holds_results
from samvideo.trackers.base import Tracker
from samvideo.trackers.direction import track_all_directions
from samvideo.trackers.loop import check_prompts, place_prompts
from samvideo.trackers.schedule import PromptSchedule, propagate
from samvideo.types import Frame, FrameResult, Prompt

log = logging.getLogger(__name__)


def run_tracking(
    settings: RunSettings, make_tracker: Callable[[], Tracker], progress: Callable[[str, int | None], Progress]
) -> tuple[Summary | None, SamVideoError | None]:
    """Track until the end, an error or a signal; the result files are finalised in every case.

    `make_tracker` is called once source and prompts have been checked, since it may take long; `progress` gets the
    source's name and its expected number of frames.

    Returns the summary, or None if a signal came before the first result, and the error that ended the run early,
    if one did. A SamVideoError is raised only before the first result, when nothing was written.
    """
    with settings.open_source() as video:
        check_options(settings)
        if settings.revised and not _are_files(video.files):
            raise ConfigError(
                "final results of a policy are written in a second pass over a file: take the policy without"
            )
        prompts = _check_prompts(settings, video)
        _check_sizes(settings.prompts, video.info.size_wh)
        check_ids(settings.prompts, settings.save)
        folder = settings.folder(video.info)
        settings = _started(settings, folder, video.files)
        replacing, prompted = settings.overwrite or settings.resume, prompt_files(settings.prompt_texts)
        check_outputs(folder, settings.save, replacing, video.files, prompted)
        record = _step_record(settings, video)
        with folder_lock(folder):
            run = _Tracking(settings, prompts, video, record, make_tracker)
            with progress(video.info.name, _expected_frames(video, settings)) as bar, Interrupt() as interrupt:
                run.track(bar, interrupt)
                return run.finish(interrupt.requested)


def _started(settings: RunSettings, folder: Path, files: Sequence[Path]) -> RunSettings:
    """Return the settings of a new run where there is nothing to resume yet: a run may be killed at its very start.

    Raises ConfigError for a source that cannot be read again.
    """
    if settings.resume and not _are_files(files):
        raise ConfigError(
            "a camera, a stream or a pipe cannot be read again: only runs on files can be resumed; leave --resume "
            "out"
        )
    if not settings.resume or holds_results(folder):
        return settings
    log.warning("there is no run to resume in %s yet: it is started", folder)
    return replace(settings, resume=False, overwrite=(folder / RECORD).is_file())


def _step_record(settings: RunSettings, video: VideoSource) -> StepRecord | None:
    """Return the record of the run's steps, None if its source cannot be read again."""
    if not _are_files(video.files):
        return None
    record = StepRecord(settings.folder(video.info), video.info, same_settings(settings, video.files))
    if settings.resume:
        record.load()  # checked before the model is loaded
    return record


def _are_files(paths: Sequence[Path]) -> bool:
    return bool(paths) and all(path.is_file() for path in paths)


class _Tracking(Closing):
    """A run that opens its files with its first result, so that a refused one leaves nothing behind."""

    def __init__(
        self,
        settings: RunSettings,
        prompts: dict[int, list[Prompt]] | list[Prompt],
        video: VideoSource,
        record: StepRecord | None,
        make_tracker: Callable[[], Tracker],
    ) -> None:
        self._settings, self._prompts, self._video, self._record = settings, prompts, video, record
        self._run: Run | None = None
        self._timer = StageTimer()
        self._failure: SamVideoError | None = None
        self._tracker = RecordedTracker(make_tracker(), self._open, record, resume=settings.resume)

    def _open(self) -> None:
        opening = self._record.open if self._record is not None else lambda: None
        self._run = Run.open(self._settings, self._video.info, self._timer, self._video.files, opening=opening)

    def track(self, bar: Progress, interrupt: Interrupt) -> None:
        """Track and write until the end, an error or a signal."""

        def watch(result: FrameResult) -> bool:
            bar.advance(result)
            return not interrupt.requested

        results = _results(self._settings, self._prompts, self._video, self._tracker, self._timer, interrupt, watch)
        try:
            with self._timer.measure("total"), self, closing(results):
                for frame, result in self._timer.each("step", results):
                    assert self._run is not None
                    self._run.write(frame, result)
        except SamVideoError as error:
            self._failure = error
        except KeyboardInterrupt:
            interrupt.requested = True

    def close(self) -> None:
        """Write what is queued and finalise the files, also if one of them fails."""
        with ExitStack() as stack:
            for part in (self._record, self._run):
                if part is not None:
                    stack.callback(part.close)

    def finish(self, interrupted: bool) -> tuple[Summary | None, SamVideoError | None]:
        """Record how the run ended; see `run_tracking`."""
        unused = len(self._settings.prompts) - self._tracker.prompted
        if self._run is None and self._failure is None and not interrupted:
            self._failure = ConfigError(
                "nothing was tracked: no frame lies in the range; check --start, --end and the source"
            )
        if self._failure is None and not interrupted and unused > 0:
            self._failure = PromptError(
                f"{unused} of {len(self._settings.prompts)} prompts were never used: their frames are not among "
                "those tracked; check their @FRAME or @TIME"
            )
        return end_run(self._run, self._failure, interrupted, self._video.skipped)


def _check_prompts(settings: RunSettings, video: VideoSource) -> dict[int, list[Prompt]] | list[Prompt]:
    """Return the prompts by frame or, going forward, those that wait for theirs. Raises as these functions."""
    if settings.direction != "forward" or settings.revised:
        return place_prompts(settings.prompts, video)
    if settings.search is not None and not settings.prompts:
        return []
    start, end, stride = settings.start or 0, settings.end, settings.stride
    return check_prompts(settings.prompts, video, start=start, end=end, stride=stride)


def _results(
    settings: RunSettings,
    prompts: dict[int, list[Prompt]] | list[Prompt],
    video: VideoSource,
    tracker: Tracker,
    timer: StageTimer,
    interrupt: Interrupt,
    watch: Callable[[FrameResult], bool],
) -> Generator[tuple[Frame, FrameResult], None, None]:
    """Yield every frame of the run with its result; `watch` gets each result once and ends the run with False."""
    if isinstance(prompts, dict):
        yield from track_all_directions(tracker, video, prompts, settings.direction, watch)
        return
    decoded = timer.each("decode", clip(video, settings.start, settings.end, settings.stride))
    with closing(prefetch(decoded)) as ahead:
        frames = timer.each("wait", interrupt.awaited(ahead))
        for frame, result in propagate(frames, tracker, PromptSchedule(prompts, settings.stride)):
            yield frame, result
            if not watch(result):
                return


def _check_sizes(prompts: Sequence[Prompt], size_wh: tuple[int, int]) -> None:
    """Raise PromptError for prompts that do not fit a frame or each other."""
    moments: dict[tuple[int | None, float | None], list[Prompt]] = {}
    for prompt in number_prompts(prompts):
        moments.setdefault((prompt.frame, prompt.seconds), []).append(prompt)
    for moment, together in moments.items():
        others = (p.object_id for other in moments.keys() - {moment} for p in moments[other])
        group_tracked(together, [object_id for object_id in others if object_id is not None], size_wh)


def check_options(settings: RunSettings) -> None:
    """Raise ConfigError for settings that contradict each other."""
    if settings.resume and settings.overwrite:
        raise ConfigError("--resume keeps what a run has written, --overwrite removes it: give one of them")
    if "labels" in settings.save and settings.strip_source and settings.start:
        raise ConfigError(
            "--strip-source with --start numbers the slices from 0, but labels keep their places in the volume: "
            "leave one of them out, or labels out of --save"
        )
    whole = f"--direction {settings.direction}" if settings.direction != "forward" else ""
    whole = whole or ("a --policy with final results" if settings.revised else "")
    if settings.search is not None and whole:
        raise ConfigError(f"objects are searched for going forward, with results at once: leave {whole} out")
    ranged = settings.start is not None or settings.end is not None or settings.stride != 1
    if whole and ranged:
        raise ConfigError(f"{whole} covers the whole video: leave --start, --end and --stride out")


def _expected_frames(video: VideoSource, settings: RunSettings) -> int | None:
    """Return the number of frames of the run, as far as the header of the source states it."""
    info = video.info
    first, last = (
        round(moment * info.rate) if isinstance(moment, float) else moment
        for moment in (settings.start, settings.end)
    )
    last = last if info.frame_count is None else min(last or info.frame_count, info.frame_count)
    return None if last is None else max(0, -(-(last - (first or 0)) // settings.stride))
