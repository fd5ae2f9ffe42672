"""Tracks a source into result files, with a stop at any frame and the time of every stage."""

from collections.abc import Callable, Generator
from contextlib import closing

from samvideo.errors import ConfigError, SamVideoError
from samvideo.interrupt import Interrupt
from samvideo.io.prefetch import prefetch
from samvideo.io.source import VideoSource, clip, open_video
from samvideo.outputs import check_ids
from samvideo.run import Progress, Run, RunSettings, StageTimer, Summary
from samvideo.trackers.base import Tracker
from samvideo.trackers.direction import track_all_directions
from samvideo.trackers.loop import check_prompts, place_prompts
from samvideo.trackers.schedule import PromptSchedule, propagate
from samvideo.types import Frame, FrameResult


def run_tracking(
    settings: RunSettings, make_tracker: Callable[[], Tracker], progress: Callable[[str, int | None], Progress]
) -> tuple[Summary, SamVideoError | None]:
    """Track until the end, an error or a signal; the result files are finalised in every case.

    `make_tracker` is called once source and prompts have been checked, since it may take long; `progress` gets the
    source's name and its expected number of frames.

    Returns the summary, and the error that ended the run early, if one did. A SamVideoError is raised only before
    the first frame, when nothing was written.
    """
    with open_video(settings.source) as video:
        check_prompts(settings.prompts, video.info, start=settings.start, end=settings.end)
        check_ids(settings.prompts, settings.save)
        _check_direction(settings)
        tracker = make_tracker()
        run = Run.open(settings, video.info)
        failure: SamVideoError | None = None
        with progress(video.info.name, _expected_frames(video, settings)) as bar, Interrupt() as interrupt:

            def watch(result: FrameResult) -> bool:
                bar.advance(result)
                return not interrupt.requested

            try:
                results = _results(settings, video, tracker, run.timer, interrupt, watch)
                with run.timer.measure("total"), run, closing(results):
                    for frame, result in run.timer.each("step", results):
                        run.write(frame, result)
            except SamVideoError as error:
                failure = error
            except KeyboardInterrupt:
                interrupt.requested = True
        summary = run.finish("interrupted" if interrupt.requested else "complete", failure, skipped=video.skipped)
        return summary, run.failure


def _results(
    settings: RunSettings,
    video: VideoSource,
    tracker: Tracker,
    timer: StageTimer,
    interrupt: Interrupt,
    watch: Callable[[FrameResult], bool],
) -> Generator[tuple[Frame, FrameResult], None, None]:
    """Yield every frame of the run with its result; `watch` gets each result once and ends the run with False."""
    if settings.direction != "forward":
        placed = place_prompts(settings.prompts, video)
        yield from track_all_directions(tracker, video, placed, settings.direction, watch)
        return
    decoded = timer.each("decode", clip(video, settings.start, settings.end, settings.stride))
    with closing(prefetch(decoded)) as ahead:
        frames = timer.each("wait", interrupt.awaited(ahead))
        for frame, result in propagate(frames, tracker, PromptSchedule(settings.prompts, settings.stride)):
            yield frame, result
            if not watch(result):
                return


def _check_direction(settings: RunSettings) -> None:
    ranged = settings.start is not None or settings.end is not None or settings.stride != 1
    if settings.direction != "forward" and ranged:
        raise ConfigError(
            f"direction {settings.direction} covers the whole video: leave --start, --end and --stride out"
        )


def _expected_frames(video: VideoSource, settings: RunSettings) -> int | None:
    """Return the number of frames of the run, as far as the header of the source states it."""
    info = video.info
    first, last = (
        round(moment * info.rate) if isinstance(moment, float) else moment
        for moment in (settings.start, settings.end)
    )
    last = last if info.frame_count is None else min(last or info.frame_count, info.frame_count)
    return None if last is None else max(0, -(-(last - (first or 0)) // settings.stride))
