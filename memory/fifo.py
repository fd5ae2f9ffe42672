"""SAM 2's policy: prompted frames for good, of the others the last six (Ravi et al. 2024, section 4).

Counterpart: facebookresearch/sam2: sam2/modeling/sam2_base.py, _prepare_memory_conditioned_features. There nothing
is ever freed; here prompted entries are bounded and the others expire.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from samvideo.errors import ConfigError
from samvideo.memory.base import TIME_ROWS, MemoryEntry, Recall
from samvideo.tensors import MemoryTokens

KIND = "memory policy"


@dataclass(frozen=True)
class FifoPolicy:
    """First in, first out.

    Attributes:
        frames: un-prompted frames recalled, at most 6 (there are no time codes for more).
        pointers: pointers of this many earlier frames are recalled, at least 1.
        prompted: prompted entries kept: the first and the most recent, so that a session of many corrections stays
            bounded.
        nearest: attend only to this many prompted frames, the closest in time; None for all that are kept.
        stride: take every stride-th frame, and always the last.
        past_only: recall pointers of prompted frames only from frames that came before.
    """

    frames: int = TIME_ROWS - 1
    pointers: int = 15
    prompted: int = 8
    nearest: int | None = None
    stride: int = 1
    past_only: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.frames < TIME_ROWS or min(self.pointers, self.prompted, self.stride) < 1:
            raise ConfigError(
                f"frames must be 0 to {TIME_ROWS - 1} and pointers, prompted, stride at least 1, not {self}"
            )
        if self.nearest is not None and self.nearest < 2:
            raise ConfigError(f"nearest must be at least 2 (one frame before, one after), not {self.nearest}")

    @property
    def pointer_span(self) -> int:
        """See `MemoryPolicy`."""
        return self.pointers

    def keep(self, entries: Sequence[MemoryEntry]) -> list[MemoryEntry]:
        """See `MemoryPolicy.keep`: tokens expire after `frames` steps, pointers after `pointers`."""
        now = entries[-1].index
        prompted = [e for e in entries if e.prompted]
        surplus = max(0, len(prompted) - self.prompted)
        dropped = {id(e) for e in prompted[1 : 1 + surplus]}
        kept = []
        for entry in entries:
            age = now - entry.index
            if entry.prompted:
                if id(entry) not in dropped:
                    kept.append(entry)
            elif age < self.frames * self.stride:
                kept.append(entry)
            elif age < self.pointers:
                kept.append(entry if entry.tokens is None else replace(entry, tokens=None))
        return kept

    def recall(self, objects: Sequence[Sequence[MemoryEntry]], index: int, reverse: bool = False) -> list[Recall]:
        """See `MemoryPolicy.recall`."""
        return [self._recall(entries, index, -1 if reverse else 1) for entries in objects]

    def _recall(self, entries: Sequence[MemoryEntry], index: int, sign: int) -> Recall:
        prompted = [e for e in entries if e.prompted]
        chosen = nearest_entries(prompted, index, self.nearest)
        picked = {id(e) for e in chosen}
        # a prompted frame that is not attended to as such still counts as an ordinary one
        ordinary = {e.index: e for e in prompted if id(e) not in picked}
        ordinary |= {e.index: e for e in entries if not e.prompted}
        frames: list[tuple[int, MemoryTokens]] = [(TIME_ROWS - 1, e.tokens) for e in chosen if e.tokens is not None]
        for back in range(self.frames, 0, -1):
            entry = ordinary.get(self._earlier(index, back, sign))
            if entry is not None and entry.tokens is not None:
                frames.append((back - 1, entry.tokens))
        pointers: list[tuple[int, Tensor]] = [
            ((index - e.index) * sign, e.pointer)
            for e in chosen
            if not self.past_only or (index - e.index) * sign >= 0
        ]
        for age in range(1, self.pointers + 1):
            entry = ordinary.get(index - sign * age)
            if entry is not None:
                pointers.append((age, entry.pointer))
        return Recall(tuple(frames), tuple(pointers))

    def _earlier(self, index: int, back: int, sign: int) -> int:
        """The frame that counts as `back` frames before `index`: the last one, or one on the grid of the stride."""
        if back == 1:
            return index - sign
        last = sign * (((sign * index) - 2) // self.stride) * self.stride
        return last - sign * (back - 2) * self.stride


def nearest_entries(entries: list[MemoryEntry], index: int, count: int | None) -> list[MemoryEntry]:
    """At most `count` entries: the closest before `index`, the closest from it on, then whatever is nearest.

    Counterpart: facebookresearch/sam2: sam2/modeling/sam2_utils.py, select_closest_cond_frames.
    """
    if count is None or len(entries) <= count:
        return entries
    before = [e for e in entries if e.index < index]
    after = [e for e in entries if e.index >= index]
    chosen = [max(before, key=lambda e: e.index)] if before else []
    chosen += [min(after, key=lambda e: e.index)] if after else []
    rest = sorted((e for e in entries if e not in chosen), key=lambda e: abs(e.index - index))
    return chosen + rest[: count - len(chosen)]


VARIANTS = {"fifo": FifoPolicy()}


def build(config: FifoPolicy) -> FifoPolicy:
    """The policy is its own config."""
    return config
