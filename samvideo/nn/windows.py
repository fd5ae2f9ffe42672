"""Self-attention of the tokens of a map, whole or in windows, and the transformer block around it."""

import math
from itertools import product

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from samvideo.nn.attention import attend, attend_grid
from samvideo.nn.mlp import Mlp
from samvideo.tensors import Grid


class WindowAttention(nn.Module):
    """Multi-head self-attention over a map, or in windows of it.

    Windows that stick out are filled with tokens of zeros, as published (Li et al. 2022, ViTDet). All of these have
    the biases for key and value: only the true tokens are projected.

    Args:
        dim: channels.
        heads: attention heads; divides `dim`.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, window: int) -> Tensor:
        """(B, H, W, C) to the same, attending in windows of the given side, 0 for the whole map."""
        height, width = x.shape[1:3]
        qkv = self.qkv(x)
        if not window:
            mixed = rearrange(self._mix(qkv, (height, width), 0), "b (y x) c -> b y x c", y=height)
        else:
            mixed = torch.empty_like(qkv[..., : qkv.shape[-1] // 3])
            for rows, columns in product(_spans(height, window), _spans(width, window)):
                part = qkv[:, rows, columns]
                y, x_ = (min(window, side) for side in part.shape[1:3])
                tokens = self._mix(part, (y, x_), window)
                mixed[:, rows, columns] = rearrange(
                    tokens, "(b r c) (y x) d -> b (r y) (c x) d", r=part.shape[1] // y, c=part.shape[2] // x_, y=y
                )
        out: Tensor = self.proj(mixed)
        return out

    def _mix(self, qkv: Tensor, grid: Grid, window: int) -> Tensor:
        """(B, H, W, 3 C), cut into parts of windows with the given sides, to (windows, tokens, C)."""
        y, x = grid
        pattern = "b (r y) (c x) (three heads d) -> three (b r c) heads (y x) d"
        q, k, v = rearrange(qkv, pattern, y=y, x=x, three=3, heads=self.heads)
        return rearrange(self.attend(q, k, v, grid, window), "b heads n d -> b n (heads d)")

    def attend(self, q: Tensor, k: Tensor, v: Tensor, grid: Grid, window: int) -> Tensor:
        """Attention within windows, (windows, heads, y x, D) in and out.

        The fillers are alike, so n of them are one token whose logit is higher by log n.

        Args:
            q, k, v: of the true tokens.
            grid: y and x, rows and columns of these.
            window: side of the windows, the rest of which is fillers; 0 for the whole map.
        """
        missing = window**2 - math.prod(grid) if window else 0
        bias = None
        if missing:
            k, v = (
                torch.cat([a, b.expand(len(a), -1, -1, -1)], 2)
                for a, b in zip((k, v), self.fillers(k), strict=True)
            )
            bias = F.pad(k.new_zeros(1, 1, 1, q.shape[2]), (0, 1), value=math.log(missing))
        return attend(q, k, v, bias)

    def fillers(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Key and value (1, heads, 1, D) of a token of zeros."""
        _, key, value = self.qkv.bias.to(like.dtype).view(3, 1, self.heads, 1, -1)
        return key, value


class RelativeAttention(WindowAttention):
    """With decomposed relative positions (Li et al. 2022, MViTv2): a code for each row and column difference.

    The logit of a query and a key is higher by the product of the query, not scaled, and the sum of both codes.

    Args:
        dim: channels.
        heads: attention heads, which share the codes.
        side: of the windows or the map that the tables are made for; others get them resized.
    """

    def __init__(self, dim: int, heads: int, side: int) -> None:
        super().__init__(dim, heads)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, dim // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, dim // heads))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, grid: Grid, window: int) -> Tensor:
        """See `WindowAttention.attend`; fillers have places of their own here, so each is a token."""
        whole = (window, window) if window else grid
        if whole != grid:
            k, v = (_placed(a, grid, b, window) for a, b in zip((k, v), self.fillers(k), strict=True))
        at = q.reshape(*q.shape[:2], *grid, q.shape[-1])
        rows = torch.einsum("b h y x d, y k d -> b h y x k", at, _codes(self.rel_pos_h, grid[0], whole[0]).to(q))
        columns = torch.einsum("b h y x d, x k d -> b h y x k", at, _codes(self.rel_pos_w, grid[1], whole[1]).to(q))
        return attend_grid(q, k, v, rows.flatten(2, 3), columns.flatten(2, 3))


def _spans(length: int, window: int) -> list[slice]:
    """The whole windows along a side, and what is left over."""
    whole = length - length % window
    return [span for span in (slice(0, whole), slice(whole, length)) if span.start < span.stop]


def _placed(tokens: Tensor, grid: Grid, filler: Tensor, window: int) -> Tensor:
    """(B, heads, y x, D) at the top left of a window of fillers: (B, heads, window ** 2, D)."""
    filled = filler[..., None, :].repeat(len(tokens), 1, window, window, 1)
    filled[:, :, : grid[0], : grid[1]] = tokens.reshape(*tokens.shape[:2], *grid, -1)
    return filled.flatten(2, 3)


def _codes(table: Tensor, queries: int, keys: int) -> Tensor:
    """(queries, keys, D): codes of the differences of places along one side, from a table of these."""
    if len(table) != 2 * keys - 1:
        table = F.interpolate(table.T[None], size=2 * keys - 1, mode="linear")[0].T
    at = torch.arange(max(queries, keys), device=table.device)
    return table[at[:queries, None] - at[:keys] + keys - 1]


class Block(nn.Module):
    """Attention and an MLP, each after a LayerNorm and beside a residual connection.

    Args:
        attn: called with the normalised map and the window.
        dim: channels.
        hidden: channels within the MLP.
        window: side of the windows of attention, 0 for the whole map.
    """

    def __init__(self, attn: nn.Module, dim: int, hidden: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = attn
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, hidden, dim, activation=F.gelu)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) in and out."""
        x = x + self.attn(self.norm1(x), self.window)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out
