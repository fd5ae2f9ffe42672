"""EfficientTAM's memory: keys and values of frames are averaged over 2x2 cells (Xiong et al. 2024, section 3.2).

Counterpart: yformer/EfficientTAM: modeling/sam/transformer.py, EfficientRoPEAttention1 and 2.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from samvideo.memory.attention import CrossAttention, RotaryCrossAttention, mask_bias
from samvideo.memory.method import MemoryMethod, MethodConfig
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
    """Cross-attention to averaged frames; a single frame is attended to whole, as are pointers."""

    def __init__(self, width: int, memory_width: int, on_keys: bool) -> None:
        super().__init__(width, memory_width)
        self.on_keys = on_keys

    def attend_frames(self, q: Tensor, k: Tensor, memory: MemoryContext) -> Tensor:
        """See `RotaryCrossAttention.attend_frames`."""
        unrotated, tokens = memory.num_unrotated, memory.features
        whole_frames = q.shape[2] // (tokens.shape[2] - unrotated)
        if tokens.shape[1] <= whole_frames:
            return super().attend_frames(q, k, memory)
        pooled_k, pooled_tokens = (_pool(x[:, :, unrotated:], memory) for x in (k, tokens))
        weight = math.log(CELL**2)
        if self.on_keys:
            pooled_k = pooled_k + weight
        keys = [pooled_k, k[:, :, :unrotated].flatten(1, 2), self.pointer_keys(memory)]
        values = [pooled_tokens, tokens[:, :, :unrotated].flatten(1, 2), memory.pointers]
        bias = None
        if memory.frame_mask is not None:
            keys.append(k[:, :whole_frames, unrotated:].flatten(1, 2))
            values.append(tokens[:, :whole_frames, unrotated:].flatten(1, 2))
            bias = _static_bias(memory, [x.shape[1] for x in keys], whole_frames, q.dtype)
        if not self.on_keys:
            bias = q.new_zeros(1, 1, 1, sum(x.shape[1] for x in keys)) if bias is None else bias
            bias[..., : pooled_k.shape[1]] += weight
        return self.attend_values(q, torch.cat(keys, 1), torch.cat(values, 1), bias)


def _static_bias(memory: MemoryContext, counts: list[int], whole_frames: int, dtype: torch.dtype) -> Tensor:
    """Exclude padding, and either the pooled or the whole tokens, by how many frames an object has."""
    assert memory.frame_mask is not None
    assert memory.pointer_mask is not None
    frames = memory.frame_mask
    few = frames.sum(1, keepdim=True) <= whole_frames
    pooled, whole = frames & ~few, frames[:, :whole_frames] & few
    slots = [pooled, frames, memory.pointer_mask, whole]
    valid = [
        slot.repeat_interleave(count // slot.shape[1], 1) if slot.shape[1] else slot
        for slot, count in zip(slots, counts, strict=True)
    ]
    return mask_bias(torch.cat(valid, 1), dtype)


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
        return PooledCrossAttention(*self.widths, self.on_keys)


def build(config: PooledConfig) -> PooledMemory:
    """A pooled memory with untrained weights."""
    return PooledMemory(config)
