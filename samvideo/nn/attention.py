"""Multi-head attention with separate projections, in its two steps."""

import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Projects queries, keys and values to `inner` channels, attends in heads, projects back.

    Args:
        channels: width of queries and output.
        heads: number of heads.
        inner: width inside; `channels` when None.
        memory_channels: width of keys and values before projection; `channels` when None.
    """

    def __init__(
        self, channels: int, heads: int, inner: int | None = None, memory_channels: int | None = None
    ) -> None:
        super().__init__()
        inner = inner or channels
        memory_channels = memory_channels or channels
        self.heads = heads
        self.q_proj = nn.Linear(channels, inner)
        self.k_proj = nn.Linear(memory_channels, inner)
        self.v_proj = nn.Linear(memory_channels, inner)
        self.out_proj = nn.Linear(inner, channels)

    def split(self, x: Tensor) -> Tensor:
        """(B, N, C) to (B, heads, N, C / heads)."""
        batch, tokens, channels = x.shape
        return x.view(batch, tokens, self.heads, channels // self.heads).transpose(1, 2)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """Attention of split heads, joined and projected; `bias` is added to the attention logits."""
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, N, C) queries over (B, M, memory_channels) keys and values."""
        return self.mix(self.split(self.q_proj(q)), self.split(self.k_proj(k)), self.split(self.v_proj(v)))
