"""Tracking that can be paused, corrected and continued, in either direction, with any tracker.

Going forward, the results are always those of one run over the video with all annotations as they are now: what is
before the first change stays, the rest is tracked again from there.

Threads: the tracking thread owns the tracker and runs the passes. Any may call `changed`: it reads one reference to
annotations that are never modified, only replaced.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, suppress

from samvideo.errors import ConfigError, PromptError
from samvideo.io.prefetch import prefetch
from samvideo.io.source import VideoSource
from samvideo.trackers.base import Tracker
from samvideo.trackers.direction import Direction, backwards
from samvideo.trackers.schedule import Schedule, propagate
from samvideo.types import Frame, FrameResult, Prompt
from samvideo.types import Mask as MaskPrompt
from samvideo.web.annotations import Annotation, Annotations, changed_annotations
from samvideo.web.results import Results

STATES = 12  # of a tracker, kept to come back to


class AnnotationSchedule(Schedule):
    """Prompts from annotations; masks that are already known are given before the annotations that correct them.

    Args:
        select: known masks and annotations of a frame, as prompts.
    """

    def __init__(self, select: Callable[[Frame], tuple[list[Prompt], list[Prompt]]]) -> None:
        self._select = select
        self._later: list[Prompt] = []

    def due(self, frame: Frame, until: float) -> list[Prompt]:
        """See `Schedule.due`."""
        known, annotated = self._select(frame)
        self._later = annotated if known else []
        return known or annotated

    def corrections(self, frame: Frame, result: FrameResult) -> list[Prompt]:
        """See `Schedule.corrections`."""
        later, self._later = self._later, []
        return later


def annotated_prompts(annotations: Mapping[int, Annotation]) -> list[Prompt]:
    """The annotations of one frame, by object, as prompts."""
    return [prompt for i, annotation in annotations.items() for prompt in annotation.prompts(i)]


def known_masks(annotations: Mapping[int, Annotation], known: FrameResult) -> list[Prompt]:
    """Known masks as prompts for a tracker without these objects, but for those that get a new box or mask."""
    replaced = {i for i, new in annotations.items() if new.box is not None or new.mask is not None}
    rows = zip(known.object_ids, known.masks, strict=True)
    return [MaskPrompt(mask, object_id=i) for i, mask in rows if i not in replaced and mask.any()]


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
        self._states: dict[int, bytes] = {}
        self._gap = 8  # frames between two kept states
        self.replaying = False

    def changed(self, marks: Annotations) -> set[tuple[int, int]]:
        """Frame and object of all annotations that have changed since they were tracked."""
        return changed_annotations(marks, self._tracked)

    def run(self, marks: Annotations, direction: Direction) -> Generator[FrameResult, None, None]:
        """Track what has changed; results are stored before they are given.

        Args:
            marks: all annotations, by frame and object; they must not be modified afterwards. PromptError if empty.
            direction: "forward" from the first change to the end, "backward" from the changes to frame 0, "both":
                forward, then each changed object backward from its first change.
        """
        if not marks:
            raise PromptError("nothing to track: draw a box around an object first")
        changed = self.changed(marks)
        if direction != "backward":
            yield from self._forward(marks, changed)
        if direction != "forward":
            pick = max if direction == "backward" else min
            every = {(frame, i) for frame, here in marks.items() for i in here}
            left = {i for _, i in every}
            # If nothing is new, all objects are tracked once more, from where they were marked.
            fresh = {(frame, i) for frame, i in changed if frame in marks and i in left} or every
            starts = {i: pick(frame for frame, other in fresh if other == i) for _, i in fresh}
            yield from self._backward(marks, starts, inclusive=direction == "backward")
        self._tracked = marks

    def _forward(self, marks: Annotations, changed: set[tuple[int, int]]) -> Iterator[FrameResult]:
        first = min(marks)
        begin = min((frame for frame, _ in changed), default=first)
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
                schedule = AnnotationSchedule(lambda frame: ([], annotated_prompts(marks.get(frame.index, {}))))
                for frame, result in propagate(frames, self._tracker, schedule):
                    self.replaying = frame.index < begin
                    self._at = frame.index
                    self._save_state(frame.index)
                    if not self.replaying:
                        self._results.put(result, 1, whole=True, annotated=marks.get(frame.index, {}))
                        self._head = frame.index
                    yield result
        self._head = self._last
        self.replaying = False

    def _return_to(self, begin: int, first: int) -> int:
        """Bring the tracker to a state before frame `begin`; the frame to show it next."""
        self._states = {index: state for index, state in self._states.items() if index < begin}
        if self._at is not None and self._at == begin - 1:
            return begin
        if self._states:
            self._at = max(self._states)
            self._tracker.restore(self._states[self._at])
            return self._at + 1
        self._tracker.reset()
        self._at = None
        return first

    def _save_state(self, index: int) -> None:
        if index % self._gap:
            return
        with suppress(ConfigError):  # a tracker that cannot save its state is shown the frames again
            self._states[index] = self._tracker.state()
        while len(self._states) > STATES:
            self._gap *= 2
            self._states = {i: state for i, state in self._states.items() if i % self._gap == 0}

    def _backward(self, marks: Annotations, starts: dict[int, int], *, inclusive: bool) -> Iterator[FrameResult]:
        """Each object of `starts` from its frame to frame 0; with `inclusive` that frame gets a result too."""
        self._tracker.reset()
        self._at = None
        first = {i: min(f for f in marks if i in marks[f]) for i in starts}
        tracked: set[int] = set()
        used: dict[int, Annotation] = {}

        def select(frame: Frame) -> tuple[list[Prompt], list[Prompt]]:
            nonlocal used
            started = {i for i, start in starts.items() if start == frame.index}
            known = self._results.take(frame, {i for i in started if first[i] != frame.index})
            here = marks.get(frame.index, {})
            used = {i: annotation for i, annotation in here.items() if i in started | tracked}
            return known_masks(used, known), annotated_prompts(used)

        with self._open() as source:
            frames = backwards(source, max(starts.values()))
            for frame, result in propagate(frames, self._tracker, AnnotationSchedule(select)):
                started = {i for i, start in starts.items() if start == frame.index}
                wanted = tracked | started if inclusive else set(tracked)
                if wanted:
                    self._results.put(result, -1, whole=False, only=wanted, annotated=used)
                    yield result
                tracked |= started
