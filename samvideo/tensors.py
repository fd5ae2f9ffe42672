"""The torch value types that encoders, heads, memory and models exchange.

Two layouts only: maps are `bchw`, tokens are `bnc`. B counts objects, or is 1 for what all objects share.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Grid = tuple[int, int]
"""Height and width of a token map."""


class Features(NamedTuple):
    """One encoded frame or image; computed once, shared by all objects. Or B of them, for an object each.

    Attributes:
        coarse: (1 or B, 256, H/16, W/16).
        fine: the stride-4 and stride-8 maps for the mask decoder, finest first; empty for encoders without them.
        self_attended: what the memory method computes once a frame; SAM 2's: (1 or B, H/16 * W/16, 256) the coarse
            map after the first self-attention of memory attention. None without.
    """

    coarse: Tensor
    fine: tuple[Tensor, ...]
    self_attended: Tensor | None = None

    @property
    def grid(self) -> Grid:
        """Height and width of the coarse map."""
        return int(self.coarse.shape[-2]), int(self.coarse.shape[-1])

    def rows(self) -> "list[Features]":
        """Each image of the batch, as a batch of one that keeps nothing else alive."""
        if len(self.coarse) == 1:
            return [self]
        fine = [[row.clone() for row in torch.split(x, 1)] for x in (self.coarse, *self.fine)]
        attended: Sequence[Tensor | None] = [None] * len(self.coarse)
        if self.self_attended is not None:
            attended = torch.split(self.self_attended, 1)
        return [
            Features(coarse, tuple(own), None if last is None else last.clone())
            for coarse, *own, last in zip(*fine, attended, strict=True)
        ]

    @staticmethod
    def join(parts: "Sequence[Features]") -> "Features":
        """A batch of all the parts' images, in their order."""
        attended = [part.self_attended for part in parts if part.self_attended is not None]
        return Features(
            torch.cat([part.coarse for part in parts]),
            tuple(torch.cat(maps) for maps in zip(*(part.fine for part in parts), strict=True)),
            torch.cat(attended) if attended else None,
        )


class PromptTensors(NamedTuple):
    """Clicks of B objects in pixels of the model's input.

    Attributes:
        xy: (B, N, 2).
        labels: (B, N) of 1 (object), 0 (not), 2 and 3 (first and second corner of a box), -1 (padding).
    """

    xy: Tensor
    labels: Tensor


class MaskCandidates(NamedTuple):
    """All that the mask decoder proposes for B objects; choosing is the caller's.

    Attributes:
        logits_bnhw: float32 (B, N, H/4, W/4), positive inside. Of SAM's four, the first is the mask for unambiguous
            prompts, the others are alternatives.
        quality_bn: (B, N) predicted IoU of each mask, in [0, 1].
        tokens_bnc: (B, N, 256) output tokens, from which object pointers are made; (B, N, 0) of models without.
        presence_b: (B,) object score logit, positive where the object is visible.
    """

    logits_bnhw: Tensor
    quality_bn: Tensor
    tokens_bnc: Tensor
    presence_b: Tensor


@dataclass(frozen=True, eq=False)
class MaskPrediction:
    """The chosen masks of B objects on one frame.

    Attributes:
        logits: float32 (B, 1, H/4, W/4), positive inside; -1024 everywhere for an absent object.
        quality: (B,) predicted IoU of the mask in [0, 1].
        pointer: (B, 256) object pointer, already replaced where the object is absent; (B, 0) of models without.
        presence: (B,) object score logit, positive where the object is visible.
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
        features: (B, N, C), SAM 2's bfloat16 and 64 wide.
        position: (1, N, C'), to which the temporal code is added; the same tensor for every frame of one size.
        num_unrotated: the first so many tokens take no rotary code.
        grid: height and width of the map of the other tokens, row by row.
    """

    features: Tensor
    position: Tensor
    num_unrotated: int
    grid: Grid

    def row(self, index: int) -> "MemoryTokens":
        """One object of the batch, as a batch of one that keeps nothing else alive."""
        if self.features.shape[0] == 1:
            return self
        features = self.features[index : index + 1].clone()
        return MemoryTokens(features, self.position, self.num_unrotated, self.grid)

    def similarity(self, other: "MemoryTokens", *, rounded: bool = False) -> float:
        """See `samvideo.runtime.Tokens.similarity`."""
        ours, theirs = (t if rounded else t.float() for t in (self.features, other.features))
        return float(F.cosine_similarity(ours, theirs, dim=-1).sum())

    def potentiate(self, frames: Sequence["MemoryTokens"], sharpness: float) -> "MemoryTokens":
        """See `samvideo.runtime.Tokens.potentiate`."""
        features = torch.stack([frame.features for frame in frames]).float()
        weights = (sharpness * F.cosine_similarity(self.features.float(), features, dim=-1)).softmax(0)
        return replace(self, features=(weights[..., None] * features).sum(0).to(self.features.dtype))


@dataclass(frozen=True, eq=False)
class MemoryContext:
    """The memories of B objects, ready to be attended to. Slots that a mask excludes are padding.

    Attributes:
        features: (B, R, N, C) tokens of R frames.
        position: (B, R, N, C') space and time code of those tokens.
        num_unrotated, grid: as in `MemoryTokens`, for every frame.
        pointers: (B, P, C) pointer tokens, P may be 0.
        pointer_position: (B, P, C) their time code.
        frame_scale, pointer_scale: (B, R) and (B, P) factors on the keys' inputs; None where all are 1.
        frame_mask, pointer_mask: bool (B, R) and (B, P), False for padding; None where there is none.
    """

    features: Tensor
    position: Tensor
    num_unrotated: int
    grid: Grid
    pointers: Tensor
    pointer_position: Tensor
    frame_scale: Tensor | None = None
    pointer_scale: Tensor | None = None
    frame_mask: Tensor | None = None
    pointer_mask: Tensor | None = None
