"""The torch value types that travel between encoders, heads, memory and trackers.

Two layouts only: maps are `bchw`, tokens are `bnc`. B counts objects, or is 1 for what all objects share.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

Grid = tuple[int, int]
"""Height and width of a token map."""


class Features(NamedTuple):
    """One frame as the encoder sees it; computed once, shared by all objects.

    Attributes:
        coarse: (1, 256, H/16, W/16).
        fine: the stride-4 and stride-8 maps for the mask decoder, finest first; empty for encoders without them.
        begun: (1, H/16 * W/16, 256) what memory attention makes of the coarse map before it sees memory.
    """

    coarse: Tensor
    fine: tuple[Tensor, ...]
    begun: Tensor

    @property
    def grid(self) -> Grid:
        """Height and width of the coarse map."""
        return int(self.coarse.shape[-2]), int(self.coarse.shape[-1])


class PromptTensors(NamedTuple):
    """Clicks of B objects in pixels of the model's input.

    Attributes:
        xy: (B, N, 2).
        labels: (B, N) of 1 (object), 0 (not), 2 and 3 (first and second corner of a box), -1 (padding).
    """

    xy: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False)
class MaskPrediction:
    """The decoder's answer for B objects on one frame.

    Attributes:
        logits: float32 (B, 1, H/4, W/4), positive inside; -1024 everywhere for an absent object.
        quality: (B,) predicted IoU of the mask in [0, 1].
        pointer: (B, 256) object pointer, already replaced where the object is absent.
        presence: (B,) object score, positive where the object is visible.
    """

    logits: Tensor
    quality: Tensor
    pointer: Tensor
    presence: Tensor

    def __len__(self) -> int:
        return int(self.logits.shape[0])

    def row(self, index: int) -> "MaskPrediction":
        """One object of the batch, as a batch of one that keeps nothing else alive."""
        part = slice(index, index + 1)
        values = (self.logits, self.quality, self.pointer, self.presence)
        return MaskPrediction(*(v if len(self) == 1 else v[part].clone() for v in values))

    @staticmethod
    def join(parts: "list[MaskPrediction]") -> "MaskPrediction":
        """A batch of all the parts' objects, in their order."""
        if len(parts) == 1:
            return parts[0]
        return MaskPrediction(
            torch.cat([p.logits for p in parts]),
            torch.cat([p.quality for p in parts]),
            torch.cat([p.pointer for p in parts]),
            torch.cat([p.presence for p in parts]),
        )


@dataclass(frozen=True, eq=False)
class MemoryTokens:
    """What one frame left in memory for B objects.

    Attributes:
        features: bfloat16 (B, N, 64).
        position: (1, N, 64), the same tensor for every frame of one size.
        plain: the first `plain` tokens take no rotary code.
        grid: height and width of the map on which the other N - plain tokens lie, row by row.
    """

    features: Tensor
    position: Tensor
    plain: int
    grid: Grid

    def row(self, index: int) -> "MemoryTokens":
        """One object of the batch, as a batch of one that keeps nothing else alive."""
        if self.features.shape[0] == 1:
            return self
        features = self.features[index : index + 1].clone()
        return MemoryTokens(features, self.position, self.plain, self.grid)


@dataclass(frozen=True, eq=False)
class MemoryContext:
    """All that B objects of equal memory shape remember, ready to be attended to.

    Attributes:
        features: (B, R, N, 64) tokens of R frames.
        position: (B, R, N, 64) space and time code of those tokens.
        plain, grid: as in `MemoryTokens`, for every frame.
        pointers: (B, P, 64) pointer tokens, P may be 0.
        pointer_position: (B, P, 64) their time code.
    """

    features: Tensor
    position: Tensor
    plain: int
    grid: Grid
    pointers: Tensor
    pointer_position: Tensor
