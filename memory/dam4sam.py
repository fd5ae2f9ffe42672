"""DAM4SAM: frames that show a distractor are remembered for good (Videnovic et al. 2025).

Counterpart: jovanavidenovic/DAM4SAM: dam4sam_tracker.py and sam2/sam2/modeling/sam2_base.py. Memory has two parts
there: "DRM", the first frame and those with a distractor; "RAM", recent ones. There, one object is prompted on the
first frame. Here prompted frames belong to the first part, before those with a distractor; frames are counted from
the object's first prompt; areas are compared with those since the last one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import cv2
import numpy as np

from samvideo.errors import ConfigError
from samvideo.geometry import Box4, mask_box
from samvideo.memory.base import CODE_ROWS, Choice, History, MemoryEntry, MemoryPolicy, PolicyFacts
from samvideo.memory.fifo import bounded_prompts
from samvideo.runtime import Candidates, MemoryFrame, MemoryPointer, Pointer, SelectedMemory
from samvideo.types import BoolArray

KIND = "memory policy"
FACTS = PolicyFacts(
    "remembers frames on which the other masks show a distractor, beside visible recent ones",
    "DAM4SAM, Videnovic et al. 2025",
    "as fifo, and a second memory encoding where a frame is promoted",
)


@dataclass(frozen=True)
class DistractorState:
    """What is known of one object.

    Attributes:
        areas: frame and pixels of the newest masks that are not empty.
        promoted: frames with a distractor, as long as they are remembered, in ascending order.
        blank: frames without the object, likewise.
    """

    areas: tuple[tuple[int, int], ...] = ()
    promoted: tuple[int, ...] = ()
    blank: tuple[int, ...] = ()


class Assessment(NamedTuple):
    """What a frame's candidates say.

    Attributes:
        mask: the candidate with the highest predicted IoU.
        pixels: positive ones of the low-resolution mask; 0 for an absent object, as is the area.
        area: pixels of the mask at the size of the frame.
        area_ratio: the area in relation to the median of recent ones; -1 if there is none to compare with.
        overlaps: IoU, for each alternative mask, of the boxes of the mask without and with what the alternative
            adds; empty where it does not matter.
        promoted: whether the frame shows a distractor, and the object well enough.
    """

    mask: int
    pixels: int
    area: int
    area_ratio: float
    overlaps: tuple[float, ...]
    promoted: bool


@dataclass(frozen=True)
class DistractorPolicy(MemoryPolicy):
    """Finds the frames that show a distractor; options have their published values.

    Attributes:
        drm: frames recalled of those that are prompted or show a distractor; the others are recent ones, up to 7
            together.
        stride: recent frames but the newest are so far apart.
        pointers: pointers of this many earlier frames are recalled; 0 for models without pointers.
        prompted: prompted entries kept: the first and the most recent.
        quality: predicted IoU of the mask above which a frame may be promoted.
        least_ratio, most_ratio: bounds of the area's ratio to the median of recent ones, for that.
        gap: a promoted frame is more than this many frames after the one before.
        overlap: an alternative mask that changes the object's box to at most this IoU is a distractor.
        areas, within: the median is of so many areas, among those of so many frames.
    """

    drm: int = 4
    stride: int = 5
    pointers: int = 15
    prompted: int = 8
    quality: float = 0.8
    least_ratio: float = 0.8
    most_ratio: float = 1.2
    gap: int = 5
    overlap: float = 0.7
    areas: int = 10
    within: int = 300

    inclusive: ClassVar[bool] = False
    """Whether boxes end after the last pixel, not on it."""
    reencode: ClassVar[bool] = False
    """Whether the memory of a promoted frame is made of the binary mask."""

    def __post_init__(self) -> None:
        counts = self.stride, self.prompted, self.gap, self.areas, self.within
        if not 1 <= self.drm < CODE_ROWS or self.pointers < 0 or min(counts) < 1:
            raise ConfigError(
                f"drm must be 1 to {CODE_ROWS - 1}, pointers at least 0, stride, prompted, gap, areas and within "
                f"at least 1, not {self}"
            )

    @property
    def pointer_span(self) -> int:
        """See `MemoryPolicy`."""
        return self.pointers

    @property
    def capacity(self) -> tuple[int, int]:
        """See `MemoryPolicy`."""
        return CODE_ROWS, self.drm + self.pointers if self.pointers else 0

    def initial_state(self) -> DistractorState:
        """See `MemoryPolicy`."""
        return DistractorState()

    def select(self, candidates: Sequence[Candidates], histories: Sequence[History]) -> Sequence[Choice]:
        """See `MemoryPolicy.select`: the mask with the highest predicted IoU."""
        (proposed,), (history,) = candidates, histories
        now, state = history.now, history.state
        remembered = {entry.index for entry in history.entries} - {now}
        if not remembered:
            return (Choice(int(proposed.quality_n.argmax()), state),)
        found = self.assess(proposed, history)
        areas = [*self._earlier_areas(history), (now, found.area)]
        promoted = [i for i in state.promoted if i in remembered] + ([now] if found.promoted else [])
        blank = [i for i in state.blank if i in remembered] + ([] if found.pixels else [now])
        state = DistractorState(tuple(a for a in areas if a[1])[-self.areas :], tuple(promoted), tuple(blank))
        return (Choice(found.mask, state, binarise=found.promoted and self.reencode),)

    def assess(self, proposed: Candidates, history: History) -> Assessment:
        """What the candidates on frame `history.now` say, and whether the frame is promoted."""
        assert history.size_wh is not None
        quality = proposed.quality_n
        best = int(quality.argmax())
        area = pixels = 0
        if proposed.presence > self.presence_threshold:
            chosen = proposed.masks(history.size_wh, [best])[0]
            area, pixels = int(chosen.sum()), int(proposed.areas()[best])
        ratio = self._area_ratio(area, history)
        overlaps: list[float] = []
        if (
            quality[best] > self.quality
            and self.least_ratio <= ratio <= self.most_ratio
            and area
            and all(history.now - index > self.gap for index in history.state.promoted if index < history.now)
        ):
            others = proposed.masks(history.size_wh, [i for i in range(len(quality)) if i != best])
            overlaps = box_overlaps(chosen, others, self.inclusive)
        promoted = bool(overlaps) and min(overlaps) <= self.overlap
        return Assessment(best, pixels, area, ratio, tuple(overlaps), promoted)

    def _earlier_areas(self, history: History) -> list[tuple[int, int]]:
        """Areas to compare with: of tracked frames since the last prompt."""
        start = max(_last_prompt(history), history.now - self.within)
        return [(index, area) for index, area in history.state.areas if start < index < history.now]

    def _area_ratio(self, area: int, history: History) -> float:
        """See `Assessment`; the current area counts, too, but not on the first tracked frame."""
        if not area or history.now == _last_prompt(history) + 1:
            return -1.0
        recent = [earlier for _, earlier in self._earlier_areas(history)] + [area]
        return float(area / np.median(recent[-self.areas :]))

    def visible(self, history: History) -> list[MemoryEntry]:
        """The entries before frame `history.now` that show the object, prompted ones included, oldest first."""
        blank = set(history.state.blank)
        return [
            e
            for e in history.entries
            if e.index < history.now
            and (e.prompted or (e.presence > self.presence_threshold and (e.box or e.index not in blank)))
        ]

    def distractors(self, history: History) -> list[MemoryEntry]:
        """Entries of the first part of memory, at most `drm`, newest first.

        The first prompt comes before other prompts, prompted before promoted entries, then the newest. A promoted
        frame is of this part from the frame after the next one on.
        """
        prompted = [e for e in history.entries if e.prompted]
        promoted = [e for e in promoted_entries(history) if e.index < history.now - 1 and e.tokens is not None]
        chosen = prompted[:1] + prompted[:0:-1] + promoted[::-1]
        return sorted(chosen[: self.drm], key=lambda e: -e.index)

    def reduced(
        self, history: History, tokens: Iterable[MemoryEntry], pointers: Iterable[MemoryEntry]
    ) -> list[MemoryEntry]:
        """What is left of a history's entries: the given ones, with or without tokens.

        Besides, prompted and promoted entries stay, with their tokens, as long as they may be recalled.
        """
        prompted = bounded_prompts(history.entries, self.prompted)
        whole = {id(e) for e in [*prompted, *promoted_entries(history)[-self.drm :], *tokens]}
        pointing = {id(e) for e in pointers if not e.prompted}
        return [
            e if id(e) in whole or e.tokens is None else replace(e, tokens=None)
            for e in history.entries
            if id(e) in whole | pointing
        ]


def promoted_entries(history: History) -> list[MemoryEntry]:
    """The un-prompted entries that show a distractor, oldest first."""
    promoted = set(history.state.promoted)
    return [e for e in history.entries if e.index in promoted and not e.prompted]


def pointers_in_units(aged: Iterable[tuple[float, Pointer]], span: float, unit: float) -> tuple[MemoryPointer, ...]:
    """Pointers with their ages in frames, whose time code is in units of `span` frames instead of `unit`."""
    return tuple(MemoryPointer(age * unit / max(span, 1), pointer) for age, pointer in aged)


def _last_prompt(history: History) -> int:
    return max((e.index for e in history.entries if e.prompted and e.index < history.now), default=-1)


def box_overlaps(chosen: BoolArray, others: BoolArray, inclusive: bool = False) -> list[float]:
    """How much of the object's box is left once what an alternative mask shows besides is added.

    Of each alternative, the largest 8-connected part outside of the chosen mask counts; those without are left out.

    Args:
        chosen: (H, W) mask with a pixel.
        others: (N, H, W) alternatives.
        inclusive: whether boxes end after the last pixel, not on it.

    Returns:
        IoU of the chosen mask's box with the box around both, for each alternative that has such a part.
    """
    overlaps = []
    own = mask_box(chosen)
    assert own is not None
    for other in others & ~chosen:
        count, _, stats, _ = cv2.connectedComponentsWithStats(other.astype(np.uint8), connectivity=8)
        if count < 2:
            continue
        x, y, width, height, _ = stats[1 + stats[1:, cv2.CC_STAT_AREA].argmax()].tolist()
        both = min(own[0], x), min(own[1], y), max(own[2], x + width), max(own[3], y + height)
        union = _box_area(both, inclusive)
        overlaps.append(_box_area(own, inclusive) / union if union else 1.0)
    return overlaps


def _box_area(box: Box4, inclusive: bool) -> float:
    x1, y1, x2, y2 = box
    end = 0 if inclusive else 1
    return (x2 - x1 - end) * (y2 - y1 - end)


@dataclass(frozen=True)
class Dam4SamPolicy(DistractorPolicy):
    """As published: a box becomes a mask first, and promoted memory is encoded again. Clicks are used as they are.

    Attributes:
        stretch: the time code of pointers counts in units of the frames seen so far, until there are `pointers` of
            them, as published; the code of SAM 2 for long videos else.
    """

    stretch: bool = True

    reencode: ClassVar[bool] = True

    @property
    def box_as_mask(self) -> bool:
        """See `MemoryPolicy`."""
        return True

    def keep(self, history: History) -> list[MemoryEntry]:
        """See `MemoryPolicy.keep`: what a correction of the newest frame recalls is kept as well."""
        after = history._replace(now=history.now + 1)
        tokens = [*self._recent(history), *self._recent(after)]
        pointers = [e for e in self.visible(after) if history.now - e.index < self.pointers]
        return self.reduced(history, tokens, pointers)

    def recall(self, history: History) -> SelectedMemory:
        """See `MemoryPolicy.recall`."""
        if not history.entries:
            return SelectedMemory()
        now, origin = history.now, history.entries[0].index
        lasting = self.distractors(history)
        if lasting:
            lasting.insert(1, lasting.pop())  # published order: the newest, the first, the others
        just = [e for e in promoted_entries(history) if e.index == now - 1]
        recent = self._recent(history, just)[: CODE_ROWS - len(lasting)]
        frames = [MemoryFrame(CODE_ROWS - 1, e.tokens) for e in lasting]
        frames += [MemoryFrame(rank, e.tokens) for rank, e in reversed(list(enumerate(recent)))]
        aged = [(now - e.index, e.pointer) for e in lasting if self.pointers]
        known = {id(e) for e in lasting}
        aged += [
            (now - e.index, e.pointer)
            for e in reversed(self.visible(history))
            if now - e.index <= self.pointers and id(e) not in known
        ]
        span = min(now - origin, self.pointers) if self.stretch else self.pointers
        return SelectedMemory(tuple(frames), pointers_in_units(aged, span, self.pointers))

    def _recent(self, history: History, promoted: Iterable[MemoryEntry] = ()) -> list[MemoryEntry]:
        """Entries of the second part, newest first: the last one, then those that are on the grid of the stride.

        At most as many as there are places beside the first frame. Promoted entries are left out but for those
        given, which are newer than all.
        """
        left_out = {id(e) for e in promoted_entries(history)}
        shown = [
            e for e in self.visible(history) if not e.prompted and e.tokens is not None and id(e) not in left_out
        ]
        shown = [*shown, *promoted][::-1]
        origin = history.entries[0].index
        return [*shown[:1], *(e for e in shown[1:] if (e.index - origin) % self.stride == 0)][: CODE_ROWS - 1]


VARIANTS = {"dam4sam": Dam4SamPolicy(), "dam4sam-span": Dam4SamPolicy(stretch=False)}


def build(config: Dam4SamPolicy) -> Dam4SamPolicy:
    """The policy is its own config."""
    return config
