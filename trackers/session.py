"""Tracking that goes back in time: backwards, both ways, and corrections of earlier frames, on a seekable source.

The video is never held in memory: what is needed again is decoded again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from samvideo.trackers.base import Tracker
from samvideo.trackers.objects import number_prompts

from samvideo.errors import ConfigError, PromptError, VideoError
from samvideo.io.source import VideoSource
from samvideo.types import Frame, FrameResult, Prompt

if TYPE_CHECKING:  # `follow` serves every tracker, those without torch too
    from samvideo.trackers.sam import SamTracker, TrackerState

Direction = Literal["forward", "backward", "both"]
CHUNK = 16
"""Frames held at a time while a source is read backwards."""
SNAPSHOTS = 16
"""States kept for replays; with more prompted frames a replay starts a little earlier."""


def backwards(source: VideoSource, last: int, chunk: int = CHUNK) -> Iterator[Frame]:
    """Frames `last`, `last` - 1, ... 0, read forwards in chunks of at most `chunk` frames.

    Raises:
        VideoError: the source cannot seek.
    """
    while last >= 0:
        first = max(0, last - chunk + 1)
        source.seek(first)
        held: list[Frame] = []
        for frame in source:
            if frame.index <= last:
                held.append(frame)
            if frame.index >= last:
                break
        yield from reversed(held)
        last = first - 1


def follow(
    tracker: Tracker,
    source: VideoSource,
    prompts: Mapping[int, Sequence[Prompt]],
    direction: Direction = "forward",
) -> Iterator[FrameResult]:
    """Track from prompts anywhere in a video, forwards, backwards or both ways.

    Args:
        tracker: is reset first.
        source: must be able to seek, unless going forward from its first frame.
        prompts: by source index of the frame they were made on.
        direction: "forward" from the first prompted frame to the end; "backward" from the last prompted frame to
            frame 0; "both": first everything forward, then each object backwards from its own first prompt. Every
            pair of frame and object comes once, so backward results may lack objects that came forward already.

    Raises:
        ConfigError: unknown direction.
        PromptError: no prompts.
        VideoError: the source cannot seek, or ends before a prompt.
    """
    if direction not in get_args(Direction):
        raise ConfigError(f"direction must be forward, backward or both, not {direction!r}")
    asked = _numbered(prompts)
    if not asked:
        raise PromptError("nothing to track: give at least one prompt")
    if direction == "backward":
        tracker.reset()
        for frame in backwards(source, max(asked)):
            yield tracker.step(frame, asked.get(frame.index, ()))
        return
    yield from _forward(tracker, source, asked)
    if direction == "both":
        yield from _remaining(tracker, source, asked)


def _numbered(prompts: Mapping[int, Sequence[Prompt]]) -> dict[int, list[Prompt]]:
    """Give ids to prompts without one, once for all passes."""
    order = [(index, prompt) for index in sorted(prompts) for prompt in prompts[index]]
    named = number_prompts([prompt for _, prompt in order])
    asked: dict[int, list[Prompt]] = {}
    for (index, _), prompt in zip(order, named, strict=True):
        asked.setdefault(index, []).append(prompt)
    return asked


def _forward(tracker: Tracker, source: VideoSource, asked: Mapping[int, Sequence[Prompt]]) -> Iterator[FrameResult]:
    tracker.reset()
    _seek(source, min(asked))
    waiting = set(asked)
    for frame in source:
        waiting.discard(frame.index)
        yield tracker.step(frame, asked.get(frame.index, ()))
    if waiting:
        raise VideoError(f"the video ends before frame {min(waiting)}, on which there are prompts")


def _remaining(
    tracker: Tracker, source: VideoSource, asked: Mapping[int, Sequence[Prompt]]
) -> Iterator[FrameResult]:
    """What the forward pass could not reach: each object before its first prompt."""
    first: dict[int, int] = {}
    for index in sorted(asked):
        for prompt in asked[index]:
            assert prompt.object_id is not None
            first.setdefault(prompt.object_id, index)
    tracker.reset()
    alive: set[int] = set()
    for frame in backwards(source, max(first.values())):
        news = [p for p in asked.get(frame.index, ()) if p.object_id and first[p.object_id] == frame.index]
        result = tracker.step(frame, news)
        if alive:
            yield _only(result, alive)
        alive.update(p.object_id for p in news if p.object_id)


def _only(result: FrameResult, ids: set[int]) -> FrameResult:
    rows = np.array([i in ids for i in result.object_ids])
    return replace(
        result,
        object_ids=tuple(i for i in result.object_ids if i in ids),
        masks=result.masks[rows],
        scores=result.scores[rows],
        present=result.present[rows],
        logits=None if result.logits is None else result.logits[rows],
    )


def _seek(source: VideoSource, index: int) -> None:
    """Seek, but leave a source alone that may not be able to when nothing but its start is asked for."""
    if index > 0:
        source.seek(index)


class Session:
    """Prompts in any order on a video: a prompt on an earlier frame replays from the nearest prompt before it.

    Usage: `session.prompt(0, [Box(...)])`, `for result in session.run(): ...`, then `session.prompt(12, [...])`
    goes back to frame 12 and `run` goes on from there with the correction, and with all that was said later.

    Args:
        tracker: is reset; the session owns it from here.
        source: must be able to seek.
    """

    def __init__(self, tracker: "SamTracker", source: VideoSource) -> None:
        self.tracker, self.source = tracker, source
        self._said: dict[int, list[list[Prompt]]] = {}
        self._states: dict[int, TrackerState] = {}
        self._at: int | None = None
        tracker.reset()

    @property
    def position(self) -> int | None:
        """Source index of the frame that was tracked last; None before the first prompt."""
        return self._at

    def prompt(self, index: int, prompts: Sequence[Prompt]) -> FrameResult:
        """Say something about frame `index` and return the masks there; `run` goes on with the frame after it.

        Raises:
            PromptError: as `SamTracker.step`; what was said stays unsaid.
            VideoError: there is no such frame, or the source cannot seek.
        """
        frame = self._read(index)
        self._go_to(index)
        known = {p.object_id for batches in self._said.values() for batch in batches for p in batch}
        named = number_prompts(prompts, (i for i in known if i is not None))
        result = self.tracker.step(frame, named)
        self._said.setdefault(index, []).append(named)
        self._states = {i: state for i, state in self._states.items() if i < index}
        self._mark(index)
        return result

    def run(self, until: int | None = None) -> Iterator[FrameResult]:
        """Track the frames after the current one, to the end or up to and with frame `until`."""
        if self._at is None:
            raise PromptError("nothing to track: give a prompt first")
        if until is not None and until <= self._at:
            return
        self.source.seek(self._at + 1)
        for frame in self.source:
            yield self._step(frame)
            if until is not None and frame.index >= until:
                return

    def _step(self, frame: Frame) -> FrameResult:
        said = self._said.get(frame.index, [])
        result = self.tracker.step(frame, said[0] if said else ())
        for batch in said[1:]:
            result = self.tracker.step(frame, batch)
        self._at = frame.index
        if said:
            self._mark(frame.index)
        return result

    def _mark(self, index: int) -> None:
        """Keep the state after a prompted frame; the first and the latest ones are kept."""
        self._at = index
        self._states[index] = self.tracker.snapshot()
        if len(self._states) > SNAPSHOTS:
            del self._states[sorted(self._states)[1]]

    def _go_to(self, index: int) -> None:
        """Bring the tracker to frame `index`, tracked, with everything said so far up to there."""
        if self._at is not None and index < self._at:
            earlier = [i for i in self._states if i <= index]
            self._at = max(earlier, default=None)
            if self._at is None:
                self.tracker.reset()
            else:
                self.tracker.restore(self._states[self._at])
        if self._at is not None:
            for _ in self.run(until=index):
                pass

    def _read(self, index: int) -> Frame:
        self.source.seek(index)
        for frame in self.source:
            if frame.index == index:
                return frame
            break
        raise VideoError(f"there is no frame {index} in this video")
