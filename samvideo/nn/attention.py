"""Attention: the product of softmaxed scores and values, and multi-head attention with separate projections."""

from collections.abc import Callable
from functools import cache
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import has_torch_function

SCORE_BYTES = 24 * 2**20
"""On a CPU, scores are made for so many queries at a time as fit in here: they stay in the last-level cache."""
MANY_KEYS = 512
"""Below, blocks of queries and codes of places are not worth their cost."""
SOME_KEYS = 96
"""From here to `MANY_KEYS`, batched bfloat16 products beat a fused kernel that is slow in it."""
MASK_BYTES = 32 * 2**20
"""On a CPU, masks are made for so many heads and queries at a time as fit in here."""
LANES = 32
"""Fused kernels are fast for multiples of this width."""


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q k' / sqrt(D) + bias) v.

    Values may be narrower than queries and keys. On a CPU, the fused kernel knows but one width, and without AMX it
    computes bfloat16 no faster than float32: there, this is done as plain products, block by block of queries.

    Args:
        q: (B, heads, N, D); B may be 1 where the keys have more.
        k, v: (B, heads, M, D) and (B, heads, M, C).
        bias: (1 or B, 1, 1, M), added to the scores.

    Returns:
        (B, heads, N, C).
    """
    if torch.onnx.is_in_onnx_export():
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)
        return torch.softmax(scores if bias is None else scores + bias, -1) @ v
    batch, _, keys, width = k.shape
    narrow = width - v.shape[-1]
    watched = has_torch_function((q, k, v))  # by a mode, which is to see all queries and keys at once
    if q.device.type == "cpu" and not (watched or torch.is_grad_enabled() or torch.compiler.is_compiling()):
        slow = q.dtype == torch.bfloat16 and not has_amx()
        if keys >= MANY_KEYS and (slow or (narrow and q.dtype == torch.float32)):
            return _in_blocks(q.expand(batch, -1, -1, -1), k, v, bias)
        if keys >= SOME_KEYS and slow:
            return _batched(q.expand(batch, -1, -1, -1), k, v, bias)
    padded = F.pad(v, (0, narrow)) if narrow else v
    mask = None if bias is None else bias.expand(-1, -1, q.shape[2], -1)
    mixed = F.scaled_dot_product_attention(q.expand(batch, -1, -1, -1), k, padded, attn_mask=mask)
    return mixed[..., : v.shape[-1]]


@cache
def has_amx() -> bool:
    """Whether the CPU multiplies tiles of bfloat16, as PyTorch's fused kernel then does."""
    supported: Callable[[], bool] = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return supported()


def _batched(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    q, k, v, shape = q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), q.shape[:3]
    scores = torch.bmm(q * q.shape[-1] ** -0.5, k.transpose(1, 2))
    if bias is not None:
        scores += bias[:, 0].repeat_interleave(len(scores) // len(bias), 0)
    return torch.bmm(torch.softmax(scores, -1, out=scores), v).view(*shape, -1)


def _in_blocks(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    batch, heads, tokens, width = q.shape
    rows = max(1, min(tokens, SCORE_BYTES // (k.shape[2] * k.element_size())))
    q = q * width**-0.5
    out = v.new_empty(batch, heads, tokens, v.shape[-1])
    scores, weights = (q.new_empty(rows, k.shape[2]) for _ in range(2))
    for one in range(batch * heads):
        b, h = divmod(one, heads)
        for begin in range(0, tokens, rows):
            part = q[b, h, begin : begin + rows]
            s, w = scores[: len(part)], weights[: len(part)]
            torch.mm(part, k[b, h].T, out=s)
            if bias is not None:
                s += bias[b % len(bias), 0]
            torch.softmax(s, -1, out=w)
            torch.mm(w, v[b, h], out=out[b, h, begin : begin + rows])
    return out


def attend_grid(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """softmax(q k' / sqrt(D) + bias) v, where the key at (y, x) of a grid has the bias rows[y] + columns[x].

    With many keys, the bias, which differs by query, never is in memory as a whole: in half precision, rows and
    columns are appended to the queries and one-hot codes of place to the keys, so that fused kernels, on GPUs those
    without a mask, do it all (H200: twice as fast as with a mask). Float32 on a CPU, where products are slower than
    sums, gets a mask for a part of the queries at a time.

    Args:
        q: (B, heads, N, D).
        k, v: (B, heads, H W, D) and (B, heads, H W, C).
        rows, columns: (B, heads, N, H) and (B, heads, N, W).

    Returns:
        (B, heads, N, C).
    """
    if k.shape[2] < MANY_KEYS:
        mask = (rows[..., None] + columns[..., None, :]).flatten(3)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    in_parts = q.device.type == "cpu" and q.dtype == torch.float32
    in_parts = in_parts and not (torch.is_grad_enabled() or torch.compiler.is_compiling())
    if in_parts or has_torch_function(
        (q, k, v)
    ):  # a mode that watches attention is to see queries and keys as they are
        return _masked_in_parts(q, k, v, rows, columns)
    h, w = (torch.eye(bias.shape[-1], dtype=k.dtype, device=k.device) for bias in (rows, columns))
    codes = torch.cat([h.repeat_interleave(len(w), 0), w.repeat(len(h), 1)], 1).expand(*k.shape[:2], -1, -1)
    q = torch.cat([q * q.shape[-1] ** -0.5, rows, columns], -1)
    k = torch.cat([k, codes], -1)
    spare = -q.shape[-1] % LANES
    padded = F.pad(v, (0, q.shape[-1] + spare - v.shape[-1]))
    mixed = F.scaled_dot_product_attention(F.pad(q, (0, spare)), F.pad(k, (0, spare)), padded, scale=1.0)
    return mixed[..., : v.shape[-1]]


def _masked_in_parts(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """`attend_grid` with a mask for some heads and queries at a time."""
    shape = q.shape[:3]
    q, k, v, rows, columns = (x.flatten(0, 1) for x in (q, k, v, rows, columns))
    many, tokens, keys = len(q), q.shape[1], k.shape[1]
    queries = max(1, min(tokens, MASK_BYTES // (4 * keys)))
    heads = max(1, min(many, MASK_BYTES // (4 * keys * queries)))
    buffer = q.new_empty(heads, queries, rows.shape[-1], columns.shape[-1])
    out = v.new_empty(many, tokens, v.shape[-1])
    for i, j in product(range(0, many, heads), range(0, tokens, queries)):
        h, n = slice(i, i + heads), slice(j, j + queries)
        part = q[None, h, n]
        mask = buffer[: part.shape[1], : part.shape[2]]
        torch.add(rows[h, n, :, None], columns[h, n, None], out=mask)
        mixed = F.scaled_dot_product_attention(part, k[None, h], v[None, h], attn_mask=mask.flatten(2)[None])
        out[h, n] = mixed[0]
    return out.view(*shape, -1)


class Product(nn.Module):
    """`attend` as a module: what watches attention finds it by name, also where no module's `forward` runs."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """See `attend`."""
        return attend(q, k, v, bias)


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
        self.product = Product()

    def split(self, x: Tensor) -> Tensor:
        """(B, N, C) to (B, heads, N, C / heads)."""
        batch, tokens, channels = x.shape
        return x.view(batch, tokens, self.heads, channels // self.heads).transpose(1, 2)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """Attention of split heads, joined and projected; `bias` is added to the attention logits."""
        out: Tensor = self.out_proj(self.product(q, k, v, bias).transpose(1, 2).flatten(2))
        return out

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, N, C) queries over (B, M, memory_channels) keys and values."""
        return self.mix(self.split(self.q_proj(q)), self.split(self.k_proj(k)), self.split(self.v_proj(v)))
