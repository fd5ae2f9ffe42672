"""The one door of every tracker."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from samvideo.errors import SamVideoError
from samvideo.types import Frame, FrameResult, Prompt


@runtime_checkable
class Tracker(Protocol):
    """Follows objects through the frames it is shown; the caller owns the loop.

    Start, track, add and correct are one call, `step`: a prompt for a new id adds that object, for a known id
    corrects it on this frame. State does not grow with the number of frames seen. The suite in
    `tests/contracts/test_tracker.py` runs over every implementation.
    """

    def step(self, frame: Frame, prompts: Sequence[Prompt] = ()) -> FrameResult:
        """Take the next frame in time and return every live object's mask on it.

        Prompts are in pixels of `frame`; an `object_id` of None takes the next free id. All prompts are checked
        before any state changes. With no object yet, the result has K = 0.

        Raises:
            PromptError: a prompt lies outside the frame, contradicts another, or has the wrong size.
            VideoError: the frame has another size than the frames before it.
        """
        ...

    def forget(self, object_id: int) -> None:
        """Stop tracking one object; KeyError when it is not tracked. Its id may be used again."""
        ...

    def reset(self) -> None:
        """Forget everything, ready for another video."""
        ...


@runtime_checkable
class Foresight(Protocol):
    """A tracker that draws better masks from boxes and clicks if it also sees the next frame: what moves as one."""

    def foresee(self, frame: Frame) -> None:
        """Show the frame after the one that `step` takes next; forgotten after that step, and may be left out."""
        ...


def foresee(tracker: Tracker, frame: Frame | None) -> None:
    """Show a tracker the frame after the one that it takes next, if there is one and it makes use of it."""
    if frame is not None and isinstance(tracker, Foresight):
        tracker.foresee(frame)


def with_next(frames: Iterable[Frame]) -> Iterator[tuple[Frame, Frame | None]]:
    """Each frame with the one after it, None after the last; an error comes after the last good frame."""
    previous, failure = None, None
    iterator = iter(frames)
    while True:
        try:
            frame = next(iterator, None)
        except SamVideoError as error:
            frame, failure = None, error
        if previous is not None:
            yield previous, frame
        if failure is not None:
            raise failure
        if frame is None:
            return
        previous = frame
