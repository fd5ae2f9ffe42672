"""Memory attention: the current frame attends to itself, then to its memories (Ravi et al. 2024, section 4).

Counterparts: facebookresearch/sam2: sam2/modeling/memory_attention.py and sam/transformer.py, RoPEAttention.
"""

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samvideo.nn.attention import Attention
from samvideo.nn.hooks import is_hooked
from samvideo.nn.rope import project_rotated
from samvideo.tensors import Grid, MemoryContext

QUERY_POSITION = 0.1
"""How much of the position code is added to the frame's tokens before the first layer."""


class CrossAttention(Attention):
    """Attention of the frame's tokens over a `MemoryContext`."""

    def attend_to(self, x: Tensor, grid: Grid, memory: MemoryContext) -> Tensor:
        """(B, N, C) tokens of a `grid` to (B, N, C)."""
        raise NotImplementedError


class RotaryCrossAttention(CrossAttention):
    """Plain cross-attention: all tokens of all frames, position added to keys, keys and queries rotated.

    Values are mixed as they are remembered, 64 channels wide, and projected afterwards: attention weights P sum to
    one, so P (m V + v) O + o = (P m) V O + (v O + o). Against projecting first, as published, the product with the
    values costs a quarter.

    Args:
        width: channels of the frame's tokens.
        memory_width: channels of memory tokens.
    """

    def __init__(self, width: int, memory_width: int) -> None:
        super().__init__(width, 1, memory_channels=memory_width)

    def attend_to(self, x: Tensor, grid: Grid, memory: MemoryContext) -> Tensor:
        """See `CrossAttention.attend_to`."""
        q = self.split(project_rotated(self.q_proj, x, grid))
        tokens, unrotated = memory.features + memory.position, memory.num_unrotated
        if memory.frame_scale is not None:
            tokens = tokens * memory.frame_scale[..., None, None].to(tokens.dtype)
        k = project_rotated(self.k_proj, tokens[:, :, unrotated:], memory.grid)
        if unrotated:
            k = torch.cat([self.k_proj(tokens[:, :, :unrotated]), k], 2)
        return self.attend_frames(q, k, memory)

    def attend_frames(self, q: Tensor, k: Tensor, memory: MemoryContext) -> Tensor:
        """Attend from split, rotated queries to (B, R, N, C) keys of frames, and to the pointers."""
        keys = torch.cat([k.flatten(1, 2), self.pointer_keys(memory)], 1)
        bias = None
        if memory.frame_mask is not None and memory.pointer_mask is not None:
            frames = memory.frame_mask.repeat_interleave(k.shape[2], 1)
            bias = mask_bias(torch.cat([frames, memory.pointer_mask], 1), q.dtype)
        return self.attend_values(q, keys, torch.cat([memory.features.flatten(1, 2), memory.pointers], 1), bias)

    def pointer_keys(self, memory: MemoryContext) -> Tensor:
        """(B, P, C) keys, unrotated, of the pointer tokens."""
        tokens = memory.pointers + memory.pointer_position
        if memory.pointer_scale is not None:
            tokens = tokens * memory.pointer_scale[..., None].to(tokens.dtype)
        out: Tensor = self.k_proj(tokens)
        return out

    def attend_values(self, q: Tensor, keys: Tensor, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
        """Attend from (B, 1, N, C) to (B, M, C) keys of (B, M, 64) tokens, then project; see the class."""
        mixed = self.product(q, keys[:, None].to(q.dtype), tokens[:, None].to(q.dtype), bias)[:, 0]
        if is_hooked(self.v_proj) or is_hooked(self.out_proj):
            out: Tensor = self.out_proj(self.v_proj(mixed))
            return out
        weight = self.out_proj.weight @ self.v_proj.weight
        return F.linear(mixed, weight, F.linear(self.v_proj.bias, self.out_proj.weight, self.out_proj.bias))


def mask_bias(valid: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, M) bool to (B, 1, 1, M) for attention scores: 0, or the lowest number for what must not be attended to.

    Infinity would do as well, but gives NaN where nothing is valid.
    """
    return torch.zeros_like(valid, dtype=dtype).masked_fill(~valid, torch.finfo(dtype).min)[:, None, None]


class _SelfAttention(Attention):
    """One head with rotary code."""

    def __init__(self, width: int) -> None:
        super().__init__(width, 1)

    def attend_within(self, x: Tensor, grid: Grid) -> Tensor:
        q, k = (project_rotated(layer, x, grid) for layer in (self.q_proj, self.k_proj))
        return self.mix(self.split(q), self.split(k), self.split(self.v_proj(x)))


class _Layer(nn.Module):
    """Self-attention, cross-attention, MLP; each on normalised input and added to its own input."""

    def __init__(self, width: int, cross: CrossAttention, hidden: int) -> None:
        super().__init__()
        self.self_attn = _SelfAttention(width)
        self.cross_attn_image = cross
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def self_attention_step(self, x: Tensor, grid: Grid) -> Tensor:
        out: Tensor = x + self.self_attn.attend_within(self.norm1(x), grid)
        return out

    def cross_attention_step(self, x: Tensor, grid: Grid, memory: MemoryContext) -> Tensor:
        x = x + self.cross_attn_image.attend_to(self.norm2(x), grid, memory)
        out: Tensor = x + self.linear2(F.relu(self.linear1(self.norm3(x))))
        return out


class MemoryAttention(nn.Module):
    """A stack of layers and a last norm.

    Args:
        layers: how many.
        width: channels of the frame's tokens.
        cross: makes the cross-attention of one layer.
    """

    def __init__(self, layers: int, width: int, cross: Callable[[], CrossAttention]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(width, cross(), 8 * width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def self_attend(self, current: Tensor, position: Tensor, grid: Grid) -> Tensor:
        """Run the first layer's self-attention, which does not depend on the object: once a frame.

        Args:
            current: (1, N, width) tokens of a frame on `grid`.
            position: (1, N, width) their position code.
        """
        return self._stack()[0].self_attention_step(current + QUERY_POSITION * position, grid)

    def forward(self, self_attended: Tensor, grid: Grid, memory: MemoryContext) -> Tensor:
        """(1, N, width) from `self_attend`, and the memories of B objects, to (B, N, width)."""
        first, *others = self._stack()
        x = first.cross_attention_step(self_attended, grid, memory)
        for layer in others:
            x = layer.cross_attention_step(layer.self_attention_step(x, grid), grid, memory)
        out: Tensor = self.norm(x)
        return out

    def _stack(self) -> list[_Layer]:
        return cast("list[_Layer]", list(self.layers))
