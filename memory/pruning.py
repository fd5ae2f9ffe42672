"""Efficient frame pruning: of the recent frames, those most similar to the newest are left out (Liu et al. 2024,
Surgical SAM 2).

Counterpart: jinlab-imvr/Surgical-SAM-2: sam2/modeling/sam2_base.py, _prepare_memory_conditioned_features. Frames
left out stay candidates for later frames.
"""

from dataclasses import dataclass

from samvideo.errors import ConfigError
from samvideo.memory.base import CODE_ROWS, History, PolicyFacts
from samvideo.memory.fifo import FifoPolicy
from samvideo.runtime import SelectedMemory

KIND = "memory policy"
FACTS = PolicyFacts(
    "of the last seven frames, leaves out the two that are most similar to the newest",
    "Surgical SAM 2, Liu et al. 2024",
    "less attention",
)


@dataclass(frozen=True)
class PruningPolicy(FifoPolicy):
    """FIFO, thinned out once enough frames are remembered.

    Attributes:
        kept: at least this many frames are left.
        removed: pruning starts at `kept` + `removed` frames and takes away `removed` of them.
        published: exactly as published for one object: every frame but the first and the newest may be pruned, a
            prompted one too, and similarities are summed in bfloat16. By default prompted frames are never pruned
            and sums are float32.
    """

    kept: int = 5
    removed: int = 2
    published: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.removed < 1 or self.kept < 2:
            raise ConfigError(
                f"pruning must remove at least 1 frame and keep at least 2 (the first and the newest), not {self}"
            )

    def recall(self, history: History) -> SelectedMemory:
        """See `MemoryPolicy.recall`."""
        selected = super().recall(history)
        redundant = self._redundant(selected)
        frames = tuple(frame for i, frame in enumerate(selected.frames) if i not in redundant)
        return SelectedMemory(frames, selected.pointers)

    def _redundant(self, selected: SelectedMemory) -> set[int]:
        """Positions of the frames to leave out."""
        frames = selected.frames
        if len(frames) < self.kept + self.removed:
            return set()
        if self.published:
            candidates = list(range(1, len(frames) - 1))
        else:
            candidates = [i for i in range(len(frames) - 1) if frames[i].code_row < CODE_ROWS - 1]
        newest = frames[-1].tokens
        scores = {i: frames[i].tokens.similarity(newest, rounded=self.published) for i in candidates}
        # equal scores (common in bfloat16) are ordered by age, as a stable sort leaves them
        return set(sorted(candidates, key=lambda i: -scores[i])[: self.removed])


VARIANTS = {"pruning": PruningPolicy(), "pruning-published": PruningPolicy(published=True)}


def build(config: PruningPolicy) -> PruningPolicy:
    """The policy is its own config."""
    return config
