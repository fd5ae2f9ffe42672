"""Long-term memory of frames unlike each other, beside the recent ones; after ReSurgSAM2 (Liu et al. 2025).

Counterpart: jinlab-imvr/ReSurgSAM2: sam2/sam2_video_predictor.py, _prepare_memory_conditioned_features. As there,
of every five reliable frames the one least similar to long-term memory enters it, and is recalled with the time
code of prompted frames. There it is compared with the last one only, the oldest of three is dropped, so that
memory reaches back some fifteen reliable frames, and the three are attended to in addition to six recent ones.
Here it is compared with all, the most redundant is dropped, so that memory spans the video, and the number of
frames attended to is FIFO's: long-term frames take the places of recent ones.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from samvideo.errors import ConfigError
from samvideo.memory.base import CODE_ROWS, History, MemoryEntry, PolicyFacts
from samvideo.memory.fifo import FifoPolicy
from samvideo.runtime import MemoryFrame

KIND = "memory policy"
FACTS = PolicyFacts(
    "keeps three reliable frames unlike each other, of the whole video, beside the last three",
    "after ReSurgSAM2, Liu et al. 2025",
    "as fifo",
)


@dataclass(frozen=True)
class DiversePolicy(FifoPolicy):
    """FIFO with a bounded long-term memory. A reliable frame may enter it when it is no longer a recent one.

    Attributes:
        long_term: frames of long-term memory, of the `frames` recalled; the others are the most recent ones.
        pool: so many reliable frames are collected before one of them is chosen.
        reliable_quality: predicted IoU above which a frame is reliable.
        reliable_presence: object score logit above which a frame is reliable.
    """

    long_term: int = 3
    pool: int = 5
    reliable_quality: float = 0.95
    reliable_presence: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.long_term < self.frames or self.pool < 1:
            raise ConfigError(
                f"long_term must be at least 1 and less than frames, one of which is the newest, and pool at least "
                f"1, not {self}"
            )

    def keep(self, history: History) -> list[MemoryEntry]:
        """See `MemoryPolicy.keep`: long-term memory and the pool keep their tokens.

        The oldest reliable frames, `long_term` of them, are long-term memory, the others the pool.
        """
        old = self._old(history.entries, self._wanted_after(history.now))
        old = [entry for entry in old if self._reliable(entry)]
        long_term, pool = old[: self.long_term], old[self.long_term :]
        if len(pool) >= self.pool:
            prompted = [entry for entry in history.entries if entry.prompted]
            old = self._update(prompted[:1], long_term, pool)
        kept = {entry.index: entry for entry in super().keep(history)} | {entry.index: entry for entry in old}
        return [kept[entry.index] for entry in history.entries if entry.index in kept]

    def recall_frames(self, ordinary: Mapping[int, MemoryEntry], history: History) -> list[MemoryFrame]:
        """Long-term memory with the row of prompted frames, then the most recent ones; see the base."""
        now = history.now
        recent = {self._earlier(now, back) for back in range(1, self.frames + 1)}
        long_term = self._old((e for e in ordinary.values() if e.index < now), recent)[: self.long_term]
        newest = super().recall_frames(ordinary, history)[len(long_term) - self.frames :]
        return [MemoryFrame(CODE_ROWS - 1, entry.tokens) for entry in long_term] + newest

    def merge(self, chosen: MemoryEntry, pool: Sequence[MemoryEntry]) -> MemoryEntry:
        """What enters long-term memory for the frame chosen from a pool: the frame itself."""
        return chosen

    def _update(
        self, prompted: list[MemoryEntry], long_term: list[MemoryEntry], pool: list[MemoryEntry]
    ) -> list[MemoryEntry]:
        """Long-term memory after the frame of the pool that is least similar to it has come in."""
        known = prompted + long_term
        chosen = min(pool, key=lambda entry: _similarity(entry, known))
        # it stays until the next one comes, since it shows the object as it is now; of the others, the newer of the
        # two most similar ones goes, so that the distances in memory grow with the video
        redundant = max(reversed(long_term), key=lambda entry: _similarity(entry, known))
        return [entry for entry in long_term if entry is not redundant] + [self.merge(chosen, pool)]

    def _old(self, entries: Iterable[MemoryEntry], recent: set[int]) -> list[MemoryEntry]:
        """The un-prompted frames with tokens that are not recent, in the order of time."""
        old = [e for e in entries if not e.prompted and e.tokens is not None and e.index not in recent]
        return sorted(old, key=lambda entry: entry.index)

    def _reliable(self, entry: MemoryEntry) -> bool:
        return entry.quality > self.reliable_quality and entry.presence > self.reliable_presence


def _similarity(entry: MemoryEntry, others: Iterable[MemoryEntry]) -> float:
    """The highest similarity of a frame with another one."""
    return max((entry.tokens.similarity(e.tokens) for e in others if e is not entry), default=0.0)


VARIANTS = {"diverse": DiversePolicy()}


def build(config: DiversePolicy) -> DiversePolicy:
    """The policy is its own config."""
    return config
