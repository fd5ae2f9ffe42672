"""Any tracker, with an automatic prompter that finds its objects: also those that appear later.

Counterpart of the idea: IDEA-Research/Grounded-SAM-2, continuous id tracking.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from samvideo.errors import ConfigError
from samvideo.geometry import mask_box, pairwise_box_iou
from samvideo.io.snapshot import dump_state, load_state
from samvideo.prompters.base import AutoPrompter, Boxes, BoxFinder, MaskProposal
from samvideo.trackers.base import Tracker
from samvideo.types import BoolArray, FloatArray, Frame, FrameResult, Mask, Prompt, UInt8Array

STATE_KIND = "discovery"
Describe = Callable[[UInt8Array, Sequence[BoolArray]], FloatArray]
"""Feature vectors of objects, float32 (K, C), from an image and K masks (H, W); compared by cosine similarity."""


@dataclass(frozen=True)
class DiscoveryConfig:
    """When new objects are looked for, and what counts as one.

    Attributes:
        every: seconds between two searches.
        most: objects that are tracked at most at a time.
        covered: share of a proposal covered by tracked objects, above which it is not a new object.
        quality: least predicted IoU of a new object.
        rating: least product of predicted IoU and objectness of a new object, where the prompter finds boxes.
        least, largest: bounds of the area of a new object, as shares of the frame.
        retire: seconds without a mask after which an object is not tracked any more.
        similarity: cosine similarity above which a new object is a retired one that returned; high, because a
            wrong id is worse than a new one.
        moving: share of the frame that moves beside objects, beyond what moved at the last search, which starts a
            search before its time.
        change: difference of grey values, of 255, that counts as motion.
        motion_height: pixels of the small pictures in which motion is looked for.
        look: seconds between two looks for boxes alone, where the prompter finds them. A box that nothing explains
            starts a search before its time.
        objectness: least objectness of such a box.
        explained: IoU with the box of a tracked object, or with one that the last search saw, above which a box is
            explained.
        gain: growth of a box's objectness since the last search, above which that no longer explains it.
    """

    every: float = 1.0
    most: int = 20
    covered: float = 0.5
    quality: float = 0.5
    rating: float = 0.2
    least: float = 5e-4
    largest: float = 0.5
    retire: float = 5.0
    similarity: float = 0.9
    moving: float = 0.02
    change: int = 25
    motion_height: int = 60
    look: float = 0.2
    objectness: float = 0.25
    explained: float = 0.2
    gain: float = 0.05

    def __post_init__(self) -> None:
        if not self.every > 0:
            raise ConfigError(f"seconds between two searches are {self.every}: a number above 0 expected")
        if self.most < 1:
            raise ConfigError(f"at most {self.most} objects: a whole number of at least 1 expected")


@dataclass
class ObjectInterval:
    """When an object was there.

    Attributes:
        first, last: indices of the first and the last frame on which it has a mask.
        seconds: time of the last one.
        label: its name, if it has one.
        appearance: feature vector (C,) on the frame where it was found.
    """

    first: int
    last: int
    seconds: float
    label: str | None = None
    appearance: FloatArray | None = None


def _no_boxes() -> tuple[Boxes, FloatArray]:
    return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)


@dataclass
class _State:
    """All that changes, beside the tracker."""

    index: int | None = None  # of the newest frame
    searched: float | None = None  # time of the last search
    still: float = 0.0  # share of the frame that moved at the last search
    small: NDArray[np.uint8] | None = None  # the newest frame, small and grey
    looked: float = 0.0  # time of the last search or look for boxes
    seen: tuple[Boxes, FloatArray] = field(default_factory=_no_boxes)  # at the last search, with their objectness
    live: dict[int, ObjectInterval] = field(default_factory=dict)
    retired: dict[int, ObjectInterval] = field(default_factory=dict)
    refused: int = 0


class DiscoveringTracker:
    """See the module; implements `samvideo.trackers.base.Tracker`. Prompts add further objects.

    Args:
        tracker: tracks what is found; this object owns it.
        prompter: finds.
        config: options.
        describe: computes feature vectors, by which an object that returns keeps its id; else it gets a new one.
    """

    lookahead = 0

    def __init__(
        self,
        tracker: Tracker,
        prompter: AutoPrompter,
        config: DiscoveryConfig = DiscoveryConfig(),
        describe: Describe | None = None,
    ) -> None:
        self._tracker, self._prompter, self.config, self._describe = tracker, prompter, config, describe
        self._finder = prompter if isinstance(prompter, BoxFinder) else None
        self._state = _State()

    @property
    def intervals(self) -> dict[int, ObjectInterval]:
        """Of all objects so far, by id."""
        return dict(sorted({**self._state.retired, **self._state.live}.items()))

    @property
    def refused(self) -> int:
        """How many proposals were not tracked because there were `most` objects already."""
        return self._state.refused

    def step(self, frame: Frame, prompts: Sequence[Prompt] = (), *, upcoming: Frame | None = None) -> FrameResult:
        """See `Tracker.step`."""
        state, again = self._state, frame.index == self._state.index
        result = self._tracker.step(frame, prompts)
        self._note(frame, result)
        moving = state.still if again else self._motion(frame, result)
        if not again and self._is_due(frame, result, moving):
            found = self._search(frame, result)
            if found:
                result = self._tracker.step(frame, found)
                self._note(frame, result)
            state.searched, state.looked, state.still = frame.seconds, frame.seconds, moving
        state.index = frame.index
        labels = {number: one.label for number, one in state.live.items() if one.label is not None}
        self._retire(frame)
        return replace(result, labels=labels)

    def _is_due(self, frame: Frame, result: FrameResult, moving: float) -> bool:
        state = self._state
        if state.searched is None or abs(frame.seconds - state.searched) >= self.config.every:
            return True
        return moving > state.still + self.config.moving or self._sees_new(frame, result)

    def _sees_new(self, frame: Frame, result: FrameResult) -> bool:
        """Whether there is a box that nothing explains, if it is time to look."""
        state, config = self._state, self.config
        if self._finder is None or abs(frame.seconds - state.looked) < config.look:
            return False
        state.looked = frame.seconds
        boxes, objectness = self._finder.find_boxes(frame.rgb)
        tracked = [box for box in map(mask_box, result.masks) if box is not None]
        by_tracks = pairwise_box_iou(boxes, np.array(tracked, np.float32).reshape(-1, 4)) > config.explained
        seen, before = state.seen
        by_search = (pairwise_box_iou(boxes, seen) > config.explained) & (
            objectness[:, None] <= before + config.gain
        )
        explained = by_tracks.any(1) | by_search.any(1)
        return bool((~explained & (objectness >= config.objectness)).any())

    def _motion(self, frame: Frame, result: FrameResult) -> float:
        """Share of the frame that moves and belongs to no object."""
        height = min(self.config.motion_height, frame.size_wh[1])
        width = max(1, round(frame.size_wh[0] * height / frame.size_wh[1]))
        grey = cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        before, self._state.small = self._state.small, small
        if before is None or before.shape != small.shape:
            return self._state.still
        covered = result.masks.any(0).astype(np.uint8)
        covered = cv2.dilate(cv2.resize(covered, (width, height)), np.ones((3, 3), np.uint8))
        return float(((cv2.absdiff(small, before) > self.config.change) & (covered == 0)).mean())

    def _search(self, frame: Frame, result: FrameResult) -> list[Prompt]:
        """Masks of new objects, as prompts."""
        proposals = self._prompter.propose(frame.rgb)
        if self._finder is not None:
            self._state.seen = self._finder.find_boxes(frame.rgb)
            proposals = [one for one in proposals if _rating(one) >= self.config.rating]
        found = new_objects(proposals, np.asarray(result.masks.any(0)), self.config)
        room = max(0, self.config.most - len(self._state.live))
        self._state.refused += len(found[room:])
        new = found[:room]
        return self._named(frame, [proposal for proposal, _ in new], [mask for _, mask in new])

    def _named(self, frame: Frame, new: Sequence[MaskProposal], masks: Sequence[BoolArray]) -> list[Prompt]:
        """Give new objects their ids: those of similar retired objects, or new ones."""
        state = self._state
        appearance = self._describe(frame.rgb, masks) if self._describe and masks else None
        prompts: list[Prompt] = []
        for row, (proposal, mask) in enumerate(zip(new, masks, strict=True)):
            own = None if appearance is None else appearance[row]
            number = self._returned(own)
            if number is None:
                number = max([0, *state.live, *state.retired]) + 1
                state.live[number] = ObjectInterval(frame.index, frame.index, frame.seconds, proposal.label, own)
            else:
                state.live[number] = state.retired.pop(number)
            prompts.append(Mask(mask, object_id=number, label=state.live[number].label))
        return prompts

    def _returned(self, appearance: FloatArray | None) -> int | None:
        """The retired object that is most similar to a new one, if any is similar enough."""
        if appearance is None:
            return None
        cosines = {
            number: _cosine(appearance, past.appearance)
            for number, past in self._state.retired.items()
            if past.appearance is not None
        }
        best = max(cosines, key=lambda number: cosines[number], default=None)
        return best if best is not None and cosines[best] >= self.config.similarity else None

    def _note(self, frame: Frame, result: FrameResult) -> None:
        """Note which objects are there."""
        for object_id, _, _, present in result.rows():
            if object_id not in self._state.live:
                self._state.live[object_id] = ObjectInterval(frame.index, frame.index, frame.seconds)
            if present:
                interval = self._state.live[object_id]
                interval.last, interval.seconds = frame.index, frame.seconds

    def _retire(self, frame: Frame) -> None:
        """Stop tracking what has not been seen for long."""
        state = self._state
        for number, interval in list(state.live.items()):
            if abs(frame.seconds - interval.seconds) > self.config.retire:
                self._tracker.forget(number)
                state.retired[number] = state.live.pop(number)

    def forget(self, object_id: int) -> None:
        """See `Tracker.forget`."""
        self._tracker.forget(object_id)
        self._state.live.pop(object_id, None)

    def reset(self) -> None:
        """See `Tracker.reset`."""
        self._tracker.reset()
        self._state = _State()

    def state(self) -> bytes:
        """See `Tracker.state`."""
        return dump_state(STATE_KIND, (self._state, self._tracker.state()))

    def restore(self, state: bytes) -> None:
        """See `Tracker.restore`."""
        own, inner = load_state(STATE_KIND, state, ("samvideo.trackers.discovery",))
        self._tracker.restore(inner)
        self._state = own


def new_objects(
    proposals: Iterable[MaskProposal], taken: BoolArray, config: DiscoveryConfig
) -> list[tuple[MaskProposal, BoolArray]]:
    """Choose the proposals that are new objects.

    Args:
        proposals: the best first.
        taken: bool (H, W), the pixels of known objects.
        config: what counts as a new object.

    Returns:
        These proposals, each with its mask (H, W) outside of known objects and of the proposals before it.
    """
    found = []
    for proposal in proposals:
        free = proposal.mask & ~taken
        share = free.mean()
        own = share * free.size >= (1 - config.covered) * max(1, proposal.area)
        if own and config.least <= share <= config.largest and proposal.quality >= config.quality:
            found.append((proposal, free))
            taken = taken | free
    return found


def _cosine(one: FloatArray, other: FloatArray) -> float:
    lengths: Any = np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / lengths) if lengths > 0 else 0.0


def _rating(proposal: MaskProposal) -> float:
    assert proposal.score is not None, "a prompter that finds boxes rates them"
    return proposal.quality * proposal.score
