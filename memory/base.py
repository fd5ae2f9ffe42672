"""What every memory method and every memory policy is.

A method says how a frame becomes tokens and how the current frame attends to them; a policy says which frames are
kept and which are recalled. Any method goes with any policy and any encoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from samvideo.memory.attention import CrossAttention, MemoryAttention, RotaryCrossAttention
from samvideo.memory.encoder import MemoryEncoder
from samvideo.nn.position import sine_grid
from samvideo.tensors import Features, Grid, MemoryContext, MemoryTokens

WIDTH = 256
TOKEN_WIDTH = 64
TIME_ROWS = 7
"""Rows of the time code: 0 to 5 for the frames 1 to 6 before the current one, the last for prompted frames."""


@dataclass(frozen=True, eq=False)
class MemoryEntry:
    """What one frame left behind for one object.

    Attributes:
        index: the frame's number on the tracker's clock.
        prompted: whether the user spoke of the object on it (prompt memory), or not (frame memory).
        tokens: a batch of one; None once they have expired.
        pointer: (1, 256).
    """

    index: int
    prompted: bool
    tokens: MemoryTokens | None
    pointer: Tensor


class Recall(NamedTuple):
    """What a policy lets an object remember on one frame.

    Attributes:
        frames: (row of the time code, tokens) in the order of attention: prompted frames first, newest last.
        pointers: (age in frames, (1, 256) pointer); the age is negative for frames still to come.
    """

    frames: tuple[tuple[int, MemoryTokens], ...]
    pointers: tuple[tuple[int, Tensor], ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Objects with equal shapes can be attended to as one batch."""
        return len(self.frames), len(self.pointers)


class MemoryPolicy(Protocol):
    """Pure functions over entries; a frozen dataclass of its options."""

    @property
    def pointer_span(self) -> int:
        """How many frames back pointers are recalled; the unit of their time code."""
        ...

    def keep(self, entries: Sequence[MemoryEntry]) -> list[MemoryEntry]:
        """What is left of one object's entries (oldest insertion first) after the newest has come in.

        The result is bounded whatever comes, and its prompted entries keep their tokens.
        """
        ...

    def recall(self, objects: Sequence[Sequence[MemoryEntry]], index: int, reverse: bool = False) -> list[Recall]:
        """For every object, what to attend to on frame `index`; `reverse` where time runs backwards."""
        ...


@dataclass(frozen=True)
class MethodConfig:
    """Options of every memory method.

    Attributes:
        layers: of the memory attention.
        absent_code: whether a learned code is added to the memory of frames where the object is absent (SAM 2.1).
    """

    layers: int = 4
    absent_code: bool = False


class MemoryMethod(nn.Module):
    """Encodes frames into tokens and conditions features on them; the plain method, others override a part.

    Attributes:
        step: input height and width must be multiples of this.
    """

    step = 16

    def __init__(self, config: MethodConfig) -> None:
        super().__init__()
        self.encoder = MemoryEncoder(WIDTH, TOKEN_WIDTH)
        self.attention = MemoryAttention(config.layers, WIDTH, self.cross_attention)
        self.frame_codes = nn.Parameter(torch.zeros(TIME_ROWS, 1, 1, TOKEN_WIDTH))
        self.no_memory = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.absent = nn.Parameter(torch.zeros(1, TOKEN_WIDTH)) if config.absent_code else None

    def cross_attention(self) -> CrossAttention:
        """A new cross-attention for one layer."""
        return RotaryCrossAttention(WIDTH, TOKEN_WIDTH)

    def compress(self, memory_bchw: Tensor, position: Tensor) -> MemoryTokens:
        """Tokens of (B, 64, H, W) memory maps and their (1, 64, H, W) position code."""
        height, width = memory_bchw.shape[-2:]
        return MemoryTokens(
            memory_bchw.flatten(2).transpose(1, 2).to(torch.bfloat16), _flat(position), 0, (height, width)
        )

    def encode(self, coarse: Tensor, masks: Tensor, present: Tensor) -> MemoryTokens:
        """Tokens of one frame for B objects.

        Args:
            coarse: (1, 256, H/16, W/16) features of the frame, unconditioned.
            masks: (B, 1, H, W) at the input's size, scaled to -10 (outside) .. 10 (inside).
            present: (B,) whether the object is there.
        """
        memory = self.encoder(coarse, masks)
        if self.absent is not None:
            memory = memory + (~present)[:, None, None, None] * self.absent[..., None, None]
        return self.compress(memory, sine_grid(_grid(memory), TOKEN_WIDTH, memory.device, memory.dtype))

    def begin(self, coarse: Tensor) -> Tensor:
        """(1, N, 256): what attention makes of a frame's coarse map before it sees memory, for all objects."""
        grid = _grid(coarse)
        position = sine_grid(grid, WIDTH, coarse.device, coarse.dtype)
        return self.attention.begin(_flat(coarse), _flat(position), grid)

    def attend(self, features: Features, context: MemoryContext) -> Tensor:
        """(B, 256, H/16, W/16): the frame's features in the light of what B objects remember."""
        conditioned: Tensor = self.attention(features.begun, features.grid, context)
        return conditioned.transpose(1, 2).view(len(conditioned), -1, *features.grid)

    def without_memory(self, features: Features) -> Tensor:
        """(1, 256, H/16, W/16): the frame's features for an object that has no past."""
        return features.coarse + self.no_memory.transpose(1, 2)[..., None]


def _flat(map_bchw: Tensor) -> Tensor:
    return map_bchw.flatten(2).transpose(1, 2)


def _grid(map_bchw: Tensor) -> Grid:
    return int(map_bchw.shape[-2]), int(map_bchw.shape[-1])
