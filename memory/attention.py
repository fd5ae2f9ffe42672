"""Memory attention: the current frame looks at itself, then at what is remembered (Ravi et al. 2024, section 4).

Counterparts: facebookresearch/sam2: sam2/modeling/memory_attention.py and sam/transformer.py, RoPEAttention.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samvideo.nn.attention import Attention
from samvideo.nn.rope import rotary_table, rotate
from samvideo.tensors import Grid, MemoryContext

QUERY_POSITION = 0.1
"""How much of the position code is added to the frame's tokens before the first layer."""


class CrossAttention(Attention):
    """Attention of the frame's tokens over a `MemoryContext`."""

    def look(self, x: Tensor, grid: Grid, memory: MemoryContext) -> Tensor:
        """(B, N, C) tokens of a `grid` to (B, N, C)."""
        raise NotImplementedError


class RotaryCrossAttention(CrossAttention):
    """Plain cross-attention: all tokens of all frames, position added to keys, keys and queries rotated.

    Args:
        width: channels of the frame's tokens.
        memory_width: channels of memory tokens.
    """

    def __init__(self, width: int, memory_width: int) -> None:
        super().__init__(width, 1, memory_channels=memory_width)

    def look(self, x: Tensor, grid: Grid, memory: MemoryContext) -> Tensor:
        """See `CrossAttention.look`."""
        q = self.split(self.q_proj(x))
        q = rotate(q, rotary_table(grid, q.shape[-1], x.device, x.dtype))
        k, v = self.k_proj(memory.features + memory.position), self.v_proj(memory.features)
        table = rotary_table(memory.grid, k.shape[-1], x.device, x.dtype)
        plain = memory.plain
        rotated = rotate(k[:, :, plain:], table)
        k = torch.cat([k[:, :, :plain], rotated], 2) if plain else rotated
        return self.over(q, k, v, memory)

    def over(self, q: Tensor, k: Tensor, v: Tensor, memory: MemoryContext) -> Tensor:
        """Attend from split, rotated queries to (B, R, N, C) keys and values of frames, and to the pointers."""
        k, v = k.flatten(1, 2), v.flatten(1, 2)
        pointer_k, pointer_v = self.pointers(memory)
        return self.mix(q, self.split(torch.cat([k, pointer_k], 1)), self.split(torch.cat([v, pointer_v], 1)))

    def pointers(self, memory: MemoryContext) -> tuple[Tensor, Tensor]:
        """(B, P, C) keys, unrotated, and values of the pointer tokens."""
        return self.k_proj(memory.pointers + memory.pointer_position), self.v_proj(memory.pointers)


class _SelfAttention(Attention):
    """One head with rotary code."""

    def __init__(self, width: int) -> None:
        super().__init__(width, 1)

    def look(self, x: Tensor, grid: Grid) -> Tensor:
        q, k, v = self.split(self.q_proj(x)), self.split(self.k_proj(x)), self.split(self.v_proj(x))
        table = rotary_table(grid, q.shape[-1], x.device, x.dtype)
        return self.mix(rotate(q, table), rotate(k, table), v)


class _Layer(nn.Module):
    """Self-attention, cross-attention, MLP; each on normalised input and added to its own input."""

    def __init__(self, width: int, cross: CrossAttention, hidden: int = 2048) -> None:
        super().__init__()
        self.self_attn = _SelfAttention(width)
        self.cross_attn_image = cross
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, grid: Grid, memory: MemoryContext) -> Tensor:
        x = x + self.self_attn.look(self.norm1(x), grid)
        x = x + self.cross_attn_image.look(self.norm2(x), grid, memory)
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
        self.layers = nn.ModuleList(_Layer(width, cross()) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, current: Tensor, position: Tensor, grid: Grid, memory: MemoryContext) -> Tensor:
        """(B, N, width) tokens of a frame on `grid`, their (1, N, width) position code, and the memory."""
        x = current + QUERY_POSITION * position
        for layer in self.layers:
            x = layer(x, grid, memory)
        out: Tensor = self.norm(x)
        return out
