"""Tracking that can be paused, corrected and continued, in either direction, with any tracker.

Going forward, the results are always those of one run over the video with all annotations as they are now: what is
before the first change stays, the rest is tracked again from there.

Threads: the tracking thread owns the tracker and runs the passes. Any may call `changed`: it reads one reference to
annotations that are never modified, only replaced.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from typing import Any, Protocol, runtime_checkable

from samvideo.errors import PromptError
from samvideo.io.prefetch import prefetch
from samvideo.io.source import VideoSource
from samvideo.trackers.base import Tracker, foresee, with_next
from samvideo.trackers.direction import Direction, backwards
from samvideo.types import Frame, FrameResult, Prompt
from samvideo.types import Mask as MaskPrompt
from samvideo.web.annotations import Annotation, Annotations, changed_frames
from samvideo.web.results import Results

STATES = 12  # of a tracker, kept to come back to


@runtime_checkable
class Rewindable(Protocol):
    """A tracker that can go back to an earlier state; others are shown the frames once more."""

    def snapshot(self) -> Any:
        """The state as it is now."""

    def restore(self, state: Any) -> None:
        """Go back to a snapshot, which stays usable."""


def obey(
    tracker: Tracker,
    frame: Frame,
    marks: Mapping[int, Annotation],
    known: FrameResult,
    following: Frame | None = None,
) -> FrameResult:
    """Step a tracker on a frame with marks that may correct what is known of it.

    Args:
        tracker: takes this frame next.
        frame: the frame.
        marks: by object.
        known: masks from before, for objects that the tracker does not know: those with clicks only are corrected
            by them, those without marks are taken over.
        following: the frame that it takes after this one, if there is one.
    """
    firm = {i for i, mark in marks.items() if mark.box is not None or mark.mask is not None}
    before: list[Prompt] = [
        MaskPrompt(mask, object_id=i)
        for i, mask in zip(known.object_ids, known.masks, strict=True)
        if i not in firm and mask.any()
    ]
    said = [prompt for i, mark in marks.items() for prompt in mark.prompts(i)]
    if before:
        result = tracker.step(frame, before)
        if not said:
            return result
    if said:
        foresee(tracker, following)
    return tracker.step(frame, said)


class InteractiveTracking:
    """Passes of one tracker over a video, each after a change of the annotations.

    Args:
        tracker: is reset; this object owns it.
        open_source: a fresh source that can seek.
        results: where results go.
        frame_count: of the source, as far as is known.
    """

    def __init__(
        self, tracker: Tracker, open_source: Callable[[], VideoSource], results: Results, frame_count: int
    ) -> None:
        self._tracker, self._open, self._results = tracker, open_source, results
        self._last = frame_count - 1
        self._tracked: Annotations = {}  # what the results come from
        self._at: int | None = None  # the frame that the tracker saw last going forward
        self._head: int | None = None  # the last frame whose results agree with `_tracked`
        self._states: dict[int, Any] = {}
        self._gap = 8  # frames between two kept states
        self.replaying = False

    def changed(self, marks: Annotations) -> dict[int, set[int]]:
        """Objects, by frame, whose annotations there have changed since they were tracked."""
        found: dict[int, set[int]] = {}
        for object_id, frames in changed_frames(marks, self._tracked).items():
            for frame in frames:
                found.setdefault(frame, set()).add(object_id)
        return found

    def run(self, marks: Annotations, direction: Direction) -> Generator[FrameResult, None, None]:
        """Track what has changed; results are stored before they are given.

        Args:
            marks: all annotations, by frame and object; they must not be modified afterwards.
            direction: "forward" from the first change to the end, "backward" from the changes to frame 0, "both":
                forward, then each changed object backward from its first change.

        Raises:
            PromptError: nothing is annotated.
        """
        if not marks:
            raise PromptError("nothing to track: draw a box around an object first")
        changed = changed_frames(marks, self._tracked)
        if direction == "forward" or direction == "both":
            yield from self._forward(marks, changed)
        if direction != "forward":
            pick = max if direction == "backward" else min
            fresh = {i: frames & marks.keys() for i, frames in changed.items()}
            starts = {i: pick(frames) for i, frames in fresh.items() if frames}
            if not starts:  # nothing new: all objects once more, from where they were marked
                starts = {i: pick(f for f in marks if i in marks[f]) for here in marks.values() for i in here}
            yield from self._backward(marks, starts, inclusive=direction == "backward")
        self._tracked = marks

    # --- forward ------------------------------------------------------------------------------------------

    def _forward(self, marks: Annotations, changed: dict[int, set[int]]) -> Iterator[FrameResult]:
        first = min(marks)
        begin = min((frame for frames in changed.values() for frame in frames), default=first)
        if self._head is None:
            begin = min(begin, first)
        elif self._head < self._last:
            begin = min(begin, self._head + 1)
        if begin < first:
            self._results.drop(range(begin, first))
            begin = first
        start = self._return_to(begin, first)
        # From here on the results up to the head come from these annotations, also when this pass is left half-way.
        self._tracked, self._head = marks, begin - 1
        with self._open() as source:
            if start:
                source.seek(start)
            with closing(prefetch(iter(source))) as frames:
                for frame, following in with_next(frames):
                    self.replaying = frame.index < begin
                    if frame.index in marks:
                        foresee(self._tracker, following)
                    yield self._step(frame, marks)
        self._head = self._last
        self.replaying = False

    def _step(self, frame: Frame, marks: Annotations) -> FrameResult:
        said = [prompt for i, mark in marks.get(frame.index, {}).items() for prompt in mark.prompts(i)]
        result = self._tracker.step(frame, said)
        self._at = frame.index
        self._remember(frame.index)
        if not self.replaying:
            self._results.put(result, 1, whole=True, annotated=marks.get(frame.index, {}))
            self._head = frame.index
        return result

    def _return_to(self, begin: int, first: int) -> int:
        """Bring the tracker to a state before frame `begin`; the frame to show it next."""
        self._states = {index: state for index, state in self._states.items() if index < begin}
        if self._at is not None and self._at == begin - 1:
            return begin
        tracker = self._tracker
        if self._states and isinstance(tracker, Rewindable):
            self._at = max(self._states)
            tracker.restore(self._states[self._at])
            return self._at + 1
        tracker.reset()
        self._at = None
        return first

    def _remember(self, index: int) -> None:
        if index % self._gap or not isinstance(self._tracker, Rewindable):
            return
        self._states[index] = self._tracker.snapshot()
        while len(self._states) > STATES:
            self._gap *= 2
            self._states = {i: state for i, state in self._states.items() if i % self._gap == 0}

    # --- backward -----------------------------------------------------------------------------------------

    def _backward(self, marks: Annotations, starts: dict[int, int], *, inclusive: bool) -> Iterator[FrameResult]:
        """Each object of `starts` from its frame to frame 0; with `inclusive` that frame gets a result too."""
        self._tracker.reset()
        self._at = None
        first = {i: min(f for f in marks if i in marks[f]) for i in starts}
        alive: set[int] = set()
        with self._open() as source:
            for frame, following in with_next(backwards(source, max(starts.values()))):
                news = {i for i, start in starts.items() if start == frame.index}
                corrected = {i for i in news if first[i] != frame.index}
                said = {i: mark for i, mark in marks.get(frame.index, {}).items() if i in news | alive}
                result = obey(self._tracker, frame, said, self._results.take(frame, corrected), following)
                wanted = alive | news if inclusive else set(alive)
                if wanted:
                    self._results.put(result, -1, whole=False, only=wanted, annotated=said)
                    yield result
                alive |= news
