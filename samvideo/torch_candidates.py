"""What a decoder proposes for the objects of a frame in PyTorch; see `samvideo.runtime.Candidates`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from samvideo.heads.masks import upsample
from samvideo.runtime import Candidates
from samvideo.tensors import MaskCandidates
from samvideo.types import BoolArray, FloatArray
from samvideo.windows import Detail


class TorchCandidates:
    """One row of a batch of candidates; implements `samvideo.runtime.Candidates`. Values are copied when read."""

    def __init__(self, batch: "CandidateBatch", row: int) -> None:
        self.batch, self.row = batch, row

    @property
    def ambiguous(self) -> bool:
        """See `Candidates.ambiguous`."""
        return self.batch.ambiguous

    @property
    def quality_n(self) -> FloatArray:
        """See `Candidates.quality_n`."""
        quality: FloatArray = self.batch.quality[self.row]
        return quality

    @property
    def presence(self) -> float:
        """See `Candidates.presence`."""
        return float(self.batch.presence[self.row])

    @property
    def _logits(self) -> Tensor:
        """(N, 1, h, w)."""
        return self.batch.candidates.logits_bnhw[self.row, self.batch.first :, None]

    def areas(self) -> NDArray[np.int64]:
        """See `Candidates.areas`."""
        areas: NDArray[np.int64] = (self._logits > 0).flatten(1).sum(1).cpu().numpy()
        return areas

    def masks(self, size_wh: tuple[int, int], rows: Sequence[int] | None = None) -> BoolArray:
        """See `Candidates.masks`."""
        logits = self._logits if rows is None else self._logits[list(rows)]
        masks: BoolArray = (upsample(logits, size_wh[::-1])[:, 0] > 0).cpu().numpy()
        return masks

    def boxes(self) -> FloatArray:
        """See `Candidates.boxes`."""
        boxes = [_extremes(mask) for mask in self.masks(self.batch.input_wh)]
        return np.array(boxes, np.float32)


@dataclass(frozen=True, eq=False)
class CandidateBatch:
    """Candidates of several objects, with what the host needs of them copied once."""

    candidates: MaskCandidates
    ambiguous: bool
    input_wh: tuple[int, int]
    details: tuple[Detail, ...] = ()

    @property
    def first(self) -> int:
        """Index of the first of the decoder's masks that is offered."""
        return 1 if self.ambiguous and self.candidates.quality_bn.shape[1] > 1 else 0

    @cached_property
    def quality(self) -> FloatArray:
        """(B, N)."""
        quality: FloatArray = self.candidates.quality_bn[:, self.first :].cpu().numpy()
        return quality

    @cached_property
    def presence(self) -> FloatArray:
        """(B,)."""
        presence: FloatArray = self.candidates.presence_b.cpu().numpy()
        return presence

    def rows(self) -> list[Candidates]:
        """One view per object."""
        return [TorchCandidates(self, row) for row in range(len(self.candidates.presence_b))]


def _extremes(mask: BoolArray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (columns[0], rows[0], columns[-1], rows[-1]) if len(rows) else (0, 0, 0, 0)
