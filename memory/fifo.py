"""SAM 2's policy: all prompted frames and the last six others (Ravi et al. 2024, section 4).

Counterpart: facebookresearch/sam2: sam2/modeling/sam2_base.py, _prepare_memory_conditioned_features. There nothing
is ever freed; here prompted entries are bounded and the others expire.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from samvideo.errors import ConfigError
from samvideo.memory.base import CODE_ROWS, Choice, History, MemoryEntry, MemoryPolicy, PolicyFacts
from samvideo.runtime import Candidates, MemoryFrame, MemoryPointer, SelectedMemory

KIND = "memory policy"
FACTS = PolicyFacts(
    "attends to the prompted frames and the last six others", "SAM 2, Ravi et al. 2024", "the reference"
)


@dataclass(frozen=True)
class FifoPolicy(MemoryPolicy):
    """First in, first out.

    Attributes:
        frames: un-prompted frames recalled, at most 6 (there are no time codes for more).
        pointers: pointers of this many earlier frames are recalled; 0 for models without pointers.
        prompted: prompted entries kept: the first and the most recent, so that a session of many corrections stays
            bounded.
        nearest: attend only to this many prompted frames, the closest in time; None for all that are kept.
        stride: take every stride-th frame, and always the last.
        past_only: recall pointers of prompted frames only from frames that came before.
        closest_first: for memory methods that read the first frame and the newest only: recall prompted frames by
            their distance in time instead of by age and, where a correction was on the last frame, that one as the
            newest, too.
    """

    frames: int = CODE_ROWS - 1
    pointers: int = 15
    prompted: int = 8
    nearest: int | None = None
    stride: int = 1
    past_only: bool = True
    closest_first: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.frames < CODE_ROWS or self.pointers < 0 or min(self.prompted, self.stride) < 1:
            raise ConfigError(
                f"frames must be 0 to {CODE_ROWS - 1}, pointers at least 0, prompted and stride at least 1, "
                f"not {self}"
            )
        if self.nearest is not None and self.nearest < 2:
            raise ConfigError(f"nearest must be at least 2 (one frame before, one after), not {self.nearest}")

    @property
    def pointer_span(self) -> int:
        """See `MemoryPolicy`."""
        return self.pointers

    @property
    def capacity(self) -> tuple[int, int]:
        """See `MemoryPolicy`; prompted entries that are not among the nearest count as ordinary ones."""
        prompted = self.prompted if self.nearest is None else min(self.prompted, self.nearest)
        return prompted + self.frames, prompted + self.pointers if self.pointers else 0

    def select(self, candidates: Sequence[Candidates], histories: Sequence[History]) -> Sequence[Choice]:
        """See `MemoryPolicy.select`: as the decoder decides."""
        return (Choice(state=histories[0].state),)

    def keep(self, history: History) -> list[MemoryEntry]:
        """See `MemoryPolicy.keep`: tokens expire once no frame asks for them, pointers after `pointers` frames."""
        entries, now = history.entries, history.now
        prompted = {id(e) for e in bounded_prompts(entries, self.prompted)}
        wanted = self._wanted_after(now)
        kept = []
        for entry in entries:
            age = now - entry.index
            if entry.prompted:
                if id(entry) in prompted:
                    kept.append(entry)
            elif entry.index in wanted:
                kept.append(entry)
            elif age < self.pointers:
                kept.append(entry if entry.tokens is None else replace(entry, tokens=None))
        return kept

    def recall(self, history: History) -> SelectedMemory:
        """See `MemoryPolicy.recall`."""
        entries, index = history.entries, history.now
        prompted = [e for e in entries if e.prompted]
        chosen = nearest_entries(prompted, index, self.nearest)
        selected = {id(e) for e in chosen}
        # a prompted frame that is not attended to as such still counts as an ordinary one
        ordinary = {e.index: e for e in prompted if id(e) not in selected}
        ordinary |= {e.index: e for e in entries if not e.prompted}
        if self.closest_first and len(chosen) > 1:
            chosen = sorted(chosen, key=lambda e: abs(e.index - index))
            ordinary |= {e.index: e for e in chosen[:1] if e.index == index - 1}
        frames = [MemoryFrame(CODE_ROWS - 1, e.tokens) for e in chosen if e.tokens is not None]
        frames += self.recall_frames(ordinary, history)
        pointers = [
            MemoryPointer(index - e.index, e.pointer)
            for e in chosen
            if self.pointers and (not self.past_only or index >= e.index)
        ]
        for age in range(1, self.pointers + 1):
            entry = ordinary.get(index - age)
            if entry is not None:
                pointers.append(MemoryPointer(age, entry.pointer))
        return SelectedMemory(tuple(frames), tuple(pointers))

    def recall_frames(self, ordinary: Mapping[int, MemoryEntry], history: History) -> list[MemoryFrame]:
        """Which of the un-prompted frames, by index, are attended to, oldest first."""
        frames = []
        for back in range(self.frames, 0, -1):
            entry = ordinary.get(self._earlier(history.now, back))
            if entry is not None and entry.tokens is not None:
                frames.append(MemoryFrame(back - 1, entry.tokens))
        return frames

    def _wanted_after(self, now: int) -> set[int]:
        """Indices of the un-prompted frames that are recalled after `now` or, with a stride, by a correction of it.

        Of the frames that a stride passes over, only the newest is ever recalled.
        """
        clocks = (now + 1,) if self.stride == 1 else (now, now + 1)
        return {self._earlier(clock, back) for clock in clocks for back in range(1, self.frames + 1)}

    def _earlier(self, index: int, back: int) -> int:
        """The frame that counts as `back` frames before `index`: the last one, or one on the grid of the stride."""
        if back == 1:
            return index - 1
        return (index - 2) // self.stride * self.stride - (back - 2) * self.stride


def bounded_prompts(entries: Sequence[MemoryEntry], count: int) -> list[MemoryEntry]:
    """The prompted ones among the entries, at most `count`: the first and the most recent."""
    prompted = [e for e in entries if e.prompted]
    return prompted[:1] + prompted[max(1, len(prompted) - count + 1) :]


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
