"""Efficient frame pruning: of the remembered frames, those most like the newest are left out (Liu et al. 2024,
Surgical SAM 2).

Counterpart: jinlab-imvr/Surgical-SAM-2: sam2/modeling/sam2_base.py, _prepare_memory_conditioned_features. Frames
left out stay candidates for the frames to come.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from samvideo.errors import ConfigError
from samvideo.memory.base import TIME_ROWS, MemoryEntry, Recall
from samvideo.memory.fifo import FifoPolicy

KIND = "memory policy"


@dataclass(frozen=True)
class PruningPolicy(FifoPolicy):
    """FIFO, thinned out once enough frames are remembered.

    Attributes:
        kept: at least this many frames are left.
        removed: pruning starts at `kept` + `removed` frames and takes away `removed` of them.
        published: exactly as published: every frame but the first and the newest may go, a prompted one too; the
            choice is made for all objects together; similarities are summed in bfloat16. By default each object
            chooses for itself, prompted frames are never pruned, sums are float32.
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

    def recall(self, objects: Sequence[Sequence[MemoryEntry]], index: int, reverse: bool = False) -> list[Recall]:
        """See `MemoryPolicy.recall`."""
        recalled = super().recall(objects, index, reverse)
        if not self.published:
            return [self._without(r, self._similar([r])) for r in recalled]
        together: dict[tuple[int, ...], list[Recall]] = defaultdict(list)
        for r in recalled:
            together[_rows(r)].append(r)
        return [self._without(r, self._similar(together[_rows(r)])) for r in recalled]

    def _similar(self, group: list[Recall]) -> set[int]:
        """Places, in each recall of the group, of the frames to leave out."""
        rows = _rows(group[0])
        if len(rows) < self.kept + self.removed:
            return set()
        if self.published:
            candidates = list(range(1, len(rows) - 1))
        else:
            candidates = [i for i in range(len(rows) - 1) if rows[i] < TIME_ROWS - 1]
        scores = {i: float(self._likeness(group, i)) for i in candidates}
        # equal scores (common in bfloat16) go in order of age, as a stable sort leaves them
        return set(sorted(candidates, key=lambda i: -scores[i])[: self.removed])

    def _likeness(self, group: list[Recall], place: int) -> Tensor:
        """Cosine similarity with the newest frame, token by token, summed."""
        tokens, newest = (torch.cat([r.frames[i][1].features for r in group]) for i in (place, -1))
        if not self.published:
            tokens, newest = tokens.float(), newest.float()
        return F.cosine_similarity(tokens, newest, dim=-1).sum()

    def _without(self, recall: Recall, places: set[int]) -> Recall:
        frames = tuple(frame for i, frame in enumerate(recall.frames) if i not in places)
        return Recall(frames, recall.pointers)


def _rows(recall: Recall) -> tuple[int, ...]:
    return tuple(row for row, _ in recall.frames)


VARIANTS = {"pruning": PruningPolicy(), "pruning-published": PruningPolicy(published=True)}


def build(config: PruningPolicy) -> PruningPolicy:
    """The policy is its own config."""
    return config
