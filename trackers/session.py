"""Corrections of earlier frames: a prompt goes back in time and all after it is tracked anew.

The video is never held in memory: what is needed again is decoded again.
"""

from collections.abc import Iterator, Sequence

from samvideo.errors import PromptError, VideoError
from samvideo.io.source import VideoSource
from samvideo.trackers.objects import number_prompts
from samvideo.trackers.sam import SamTracker, TrackerState
from samvideo.types import Frame, FrameResult, Prompt

SNAPSHOTS = 16
"""States kept for replays; with more prompted frames a replay starts a little earlier."""


class Session:
    """Prompts in any order on a video: a prompt on an earlier frame replays from the nearest prompt before it.

    Usage: `session.prompt(0, [Box(...)])`, `for result in session.run(): ...`, then `session.prompt(12, [...])`
    goes back to frame 12 and `run` goes on from there with the correction, and with all that was said later.

    Args:
        tracker: is reset; the session owns it from here.
        source: must be able to seek.
    """

    def __init__(self, tracker: SamTracker, source: VideoSource) -> None:
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
            self.tracker.restore(self._states[self._at] if self._at is not None else TrackerState())
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
