"""EfficientTAM's memory: keys and values of frames are averaged over 2x2 cells (Xiong et al. 2024, section 3.2).

Counterpart: yformer/EfficientTAM: modeling/sam/transformer.py, EfficientRoPEAttention1 and 2.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from samvideo.memory.attention import CrossAttention, RotaryCrossAttention
from samvideo.memory.base import TOKEN_WIDTH, WIDTH, MemoryMethod, MethodConfig
from samvideo.tensors import MemoryContext

KIND = "memory method"
CELL = 2
"""Side of the cells that are averaged."""


@dataclass(frozen=True)
class PooledConfig(MethodConfig):
    """Options of pooled memory.

    Attributes:
        on_keys: where the logarithm of the cell's size goes, which keeps the weight of a pooled token that of the
            four it stands for: False adds it to the attention logits (exact), True to every channel of the pooled
            keys (the approximation that the `_2` checkpoints were trained with).
    """

    on_keys: bool = False


VARIANTS = {"pooled": PooledConfig(), "pooled-2": PooledConfig(on_keys=True)}


class PooledCrossAttention(RotaryCrossAttention):
    """Cross-attention to averaged frames; a single frame is attended to whole, pointers always are."""

    def __init__(self, width: int, memory_width: int, on_keys: bool) -> None:
        super().__init__(width, memory_width)
        self.on_keys = on_keys

    def over(self, q: Tensor, k: Tensor, memory: MemoryContext) -> Tensor:
        """See `RotaryCrossAttention.over`."""
        plain, tokens = memory.plain, memory.features
        if tokens.shape[1] * (tokens.shape[2] - plain) <= q.shape[2]:
            return super().over(q, k, memory)
        pooled_k, pooled_tokens = (_pool(x[:, :, plain:], memory) for x in (k, tokens))
        weight = math.log(CELL**2)
        if self.on_keys:
            pooled_k = pooled_k + weight
        keys = torch.cat([pooled_k, k[:, :, :plain].flatten(1, 2), self.pointer_keys(memory)], 1)
        values = torch.cat([pooled_tokens, tokens[:, :, :plain].flatten(1, 2), memory.pointers], 1)
        bias = None
        if not self.on_keys:
            bias = q.new_zeros(1, 1, 1, keys.shape[1])
            bias[..., : pooled_k.shape[1]] = weight
        return self.mix_memory(q, keys, values, bias)


def _pool(x: Tensor, memory: MemoryContext) -> Tensor:
    """(B, R, H * W, C) to (B, R * H/2 * W/2, C)."""
    height, width = memory.grid
    maps = rearrange(x, "b r (y x) c -> (b r) c y x", y=height, x=width)
    pooled = F.avg_pool2d(maps, CELL)
    flat: Tensor = rearrange(pooled, "(b r) c y x -> b (r y x) c", b=x.shape[0])
    return flat


class PooledMemory(MemoryMethod):
    """The plain method with pooled cross-attention."""

    step = 32

    def __init__(self, config: PooledConfig) -> None:
        self.on_keys = config.on_keys
        super().__init__(config)

    def cross_attention(self) -> CrossAttention:
        """See `MemoryMethod.cross_attention`."""
        return PooledCrossAttention(WIDTH, TOKEN_WIDTH, self.on_keys)


def build(config: PooledConfig) -> PooledMemory:
    """A pooled memory with untrained weights."""
    return PooledMemory(config)
