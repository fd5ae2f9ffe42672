"""Which prompts are due on which frame, and the loop that hands them to a tracker."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from samvideo.errors import PromptError, SamVideoError, VideoError
from samvideo.io.timeline import TIME_TOLERANCE
from samvideo.object_prompts import labels_of, number_prompts
from samvideo.trackers.base import Tracker
from samvideo.types import Frame, FrameResult, Prompt


class Schedule(ABC):
    """Decides which prompts a tracker gets while it is propagated."""

    @property
    def timed(self) -> bool:
        """Whether `due` depends on how long a frame is shown, for which the frame after it must be read first."""
        return False

    @abstractmethod
    def due(self, frame: Frame, until: float) -> Sequence[Prompt]:
        """Prompts for a frame that is shown until `until` seconds. Called once a frame."""

    def corrections(self, frame: Frame, result: FrameResult) -> Sequence[Prompt]:
        """Prompts that correct the result of a frame; called again with the new result until there are none."""
        return ()

    def finish(self, last: Frame) -> None:  # noqa: B027 - most schedules have nothing to check
        """Raise SamVideoError if a prompt was never due; called after the last frame."""


class PromptSchedule(Schedule):
    """Prompts that wait for the frame or time that they name, by default for the first frame.

    Args:
        prompts: those without an object id get one here.
        stride: frames from one to the next; used in messages only.
    """

    def __init__(self, prompts: Iterable[Prompt], stride: int = 1) -> None:
        self._waiting = number_prompts(prompts)
        self._stride = stride

    @property
    def timed(self) -> bool:
        """Whether a prompt given as a time is still to come."""
        return any(prompt.seconds is not None for prompt in self._waiting)

    def due(self, frame: Frame, until: float) -> Sequence[Prompt]:
        """See `Schedule.due`. Raises PromptError for a prompt whose frame is not among the frames."""
        due: list[Prompt] = []
        later: list[Prompt] = []
        for prompt in self._waiting:
            (later if self._waits(prompt, frame, until) else due).append(prompt)
        self._waiting = later
        return due

    def _waits(self, prompt: Prompt, frame: Frame, until: float) -> bool:
        if prompt.frame is not None:
            waits, missed = prompt.frame > frame.index, prompt.frame < frame.index
        elif prompt.seconds is not None:
            time = prompt.seconds + TIME_TOLERANCE
            waits, missed = time >= until, time < frame.seconds
        else:
            return False
        if missed:
            raise PromptError(
                f"{_describe(prompt)} is not among the frames tracked (the next one is frame {frame.index} at "
                f"{frame.seconds:.3f} s, stride {self._stride}): prompt a frame that is, or start earlier"
            )
        return waits

    def finish(self, last: Frame) -> None:
        """See `Schedule.finish`."""
        if self._waiting:
            raise PromptError(
                f"{_describe(self._waiting[0])} was never reached: the last frame tracked is {last.index} "
                f"at {last.seconds:.3f} s; give an earlier frame"
            )


class IndexedSchedule(Schedule):
    """Prompts by frame index, for frames in any order.

    Args:
        prompts: by index of their frame, all with object ids.
    """

    def __init__(self, prompts: Mapping[int, Sequence[Prompt]]) -> None:
        self._prompts = dict(prompts)
        self._missing = set(prompts)

    def due(self, frame: Frame, until: float) -> Sequence[Prompt]:
        """See `Schedule.due`."""
        self._missing.discard(frame.index)
        return self._prompts.get(frame.index, ())

    def finish(self, last: Frame) -> None:
        """See `Schedule.finish`."""
        if self._missing:
            raise VideoError(f"the video ends before frame {min(self._missing)}, which has prompts")


def propagate(frames: Iterable[Frame], tracker: Tracker, schedule: Schedule) -> Iterator[tuple[Frame, FrameResult]]:
    """Step a tracker through frames, giving it each prompt on its frame; every frame with its result.

    Where the tracker looks ahead, a frame with prompts is processed once the frame after it has been read; other
    frames are processed as they come, so a live source is delayed by one frame on prompted frames only.

    Results carry the labels of the prompts so far, beside those that the tracker gives.

    Args:
        frames: in the order of propagation: forwards, backwards or strided.
        tracker: keeps what it already tracks.
        schedule: decides on the prompts.

    Raises:
        PromptError: a prompt does not fit its frame, or its frame is not among the frames (raised after the last
            result where only the end shows it).
        VideoError: the source breaks off; raised after the last good frame.
    """
    ahead = _PeekableFrames(frames)
    frame, interval = None, 2 * TIME_TOLERANCE
    labels: dict[int, str] = {}
    for frame in ahead:
        if schedule.timed and (upcoming := ahead.peek()) is not None:
            interval = upcoming.seconds - frame.seconds
        prompts = schedule.due(frame, frame.seconds + interval)
        labels |= labels_of(prompts)
        result = _step(tracker, frame, prompts, ahead)
        while prompts := schedule.corrections(frame, result):
            labels |= labels_of(prompts)
            result = _step(tracker, frame, prompts, ahead)
        yield frame, replace(result, labels={**labels, **result.labels}) if labels else result
    if frame is not None:
        schedule.finish(frame)


def _step(tracker: Tracker, frame: Frame, prompts: Sequence[Prompt], ahead: "_PeekableFrames") -> FrameResult:
    return tracker.step(frame, prompts, upcoming=ahead.peek() if prompts and tracker.lookahead else None)


class _PeekableFrames(Iterator[Frame]):
    """Frames of which the next one can be seen early; an error while peeking is raised in its turn."""

    def __init__(self, frames: Iterable[Frame]) -> None:
        self._frames = iter(frames)
        self._held: Frame | None = None
        self._error: SamVideoError | None = None

    def peek(self) -> Frame | None:
        """The next frame; None at the end and where the source breaks off."""
        if self._held is None and self._error is None:
            try:
                self._held = next(self._frames, None)
            except SamVideoError as error:
                self._error = error
        return self._held

    def __next__(self) -> Frame:
        frame = self.peek()
        if self._error is not None and frame is None:
            raise self._error
        if frame is None:
            raise StopIteration
        self._held = None
        return frame


def _describe(prompt: Prompt) -> str:
    at = f"frame {prompt.frame}" if prompt.frame is not None else f"{prompt.seconds} s"
    return f"the prompt of object {prompt.object_id} at {at}"
