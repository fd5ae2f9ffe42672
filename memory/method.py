"""Memory methods: how a frame becomes tokens, and how the current frame is conditioned on them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from samvideo.memory.attention import CrossAttention, MemoryAttention, RotaryCrossAttention
from samvideo.memory.base import CODE_ROWS
from samvideo.memory.encoder import MemoryEncoder
from samvideo.nn.position import sine_grid
from samvideo.tensors import Features, Grid, MemoryContext, MemoryTokens

WIDTH = 256
"""Channels of image features and object pointers."""
TOKEN_WIDTH = 64
"""Channels of memory tokens."""


@dataclass(frozen=True)
class MethodConfig:
    """Options of every memory method.

    Attributes:
        layers: of the memory attention.
        occlusion_embedding: whether the memory of frames without the object gets a learned code (SAM 2.1).
        fine_widths: channels of the maps of strides 4 and 8 that come with the features; None without.
        width, token_width: channels of the features, and of memory tokens.
    """

    layers: int = 4
    occlusion_embedding: bool = False
    fine_widths: tuple[int, int] | None = None
    width: int = WIDTH
    token_width: int = TOKEN_WIDTH


class MemoryModule(nn.Module):
    """What every memory method is, with attention or without.

    Attributes:
        step: input height and width must be multiples of this.
        mergeable: whether a mean of the tokens that several frames have at one place is a token again.
        frame_codes: (7, 1, 1, C') temporal code, added to the position of tokens; see `samvideo.memory.base`.
        no_memory: what stands in for memory; also tells device and number format. Tokens that are stored as
            bfloat16 are attended to in that format, float32 ones as they are.
    """

    step = 16
    mergeable = True
    frame_codes: nn.Parameter
    no_memory: nn.Parameter

    def encode(self, features: Features, masks: Tensor, present: Tensor) -> MemoryTokens:
        """Tokens of one frame for B objects.

        Args:
            features: of the frame, unconditioned.
            masks: (B, 1, H, W) at the input's size, scaled to -10 (outside) .. 10 (inside).
            present: (B,) whether the object is there.
        """
        raise NotImplementedError

    def self_attend(self, features: Features) -> Tensor | None:
        """What `attend` needs of a frame and is the same for all objects: its `Features.self_attended`."""
        return None

    def attend(self, features: Features, context: MemoryContext) -> Tensor:
        """(B, C, H/16, W/16): the frame's features conditioned on the memories of B objects."""
        raise NotImplementedError

    def without_memory(self, features: Features) -> Tensor:
        """(1, C, H/16, W/16): the frame's features for an object without memory."""
        raise NotImplementedError


class MemoryMethod(MemoryModule):
    """SAM 2's: maps of features and mask, attended to by the frame; the plain method, others override a part.

    Attributes:
        token_dtype: in which tokens are stored.
    """

    token_dtype = torch.bfloat16

    def __init__(self, config: MethodConfig) -> None:
        super().__init__()
        self.widths = config.width, config.token_width
        self.encoder = MemoryEncoder(*self.widths)
        self.attention = MemoryAttention(config.layers, config.width, self.cross_attention)
        self.frame_codes = nn.Parameter(torch.zeros(CODE_ROWS, 1, 1, config.token_width))
        self.no_memory = nn.Parameter(torch.zeros(1, 1, config.width))
        self.absent = nn.Parameter(torch.zeros(1, config.token_width)) if config.occlusion_embedding else None

    def cross_attention(self) -> CrossAttention:
        """A new cross-attention for one layer."""
        return RotaryCrossAttention(*self.widths)

    def compress(self, memory_bchw: Tensor, position: Tensor) -> MemoryTokens:
        """Tokens of (B, 64, H, W) memory maps and their (1, 64, H, W) position code."""
        height, width = memory_bchw.shape[-2:]
        return MemoryTokens(
            memory_bchw.flatten(2).transpose(1, 2).to(self.token_dtype), _flat(position), 0, (height, width)
        )

    def encode(self, features: Features, masks: Tensor, present: Tensor) -> MemoryTokens:
        """See `MemoryModule.encode`."""
        memory = self.encoder(features.coarse, masks)
        if self.absent is not None:
            memory = memory + (~present)[:, None, None, None] * self.absent[..., None, None]
        return self.compress(memory, sine_grid(_grid(memory), memory.shape[1], memory.device, memory.dtype))

    def self_attend(self, features: Features) -> Tensor:
        """(1, N, 256): the coarse map after the first self-attention."""
        coarse, grid = features.coarse, features.grid
        position = sine_grid(grid, coarse.shape[1], coarse.device, coarse.dtype)
        return self.attention.self_attend(_flat(coarse), _flat(position), grid)

    def attend(self, features: Features, context: MemoryContext) -> Tensor:
        """See `MemoryModule.attend`."""
        conditioned: Tensor = self.attention(features.self_attended, features.grid, context)
        return torch.unflatten(conditioned.transpose(1, 2), 2, features.grid)

    def without_memory(self, features: Features) -> Tensor:
        """See `MemoryModule.without_memory`."""
        return features.coarse + self.no_memory.transpose(1, 2)[..., None]


def _flat(map_bchw: Tensor) -> Tensor:
    return map_bchw.flatten(2).transpose(1, 2)


def _grid(map_bchw: Tensor) -> Grid:
    return int(map_bchw.shape[-2]), int(map_bchw.shape[-1])
