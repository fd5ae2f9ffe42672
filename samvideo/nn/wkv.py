"""Two-sided WKV, the linear attention of Vision-RWKV (Duan et al. 2024), on a map of tokens.

Counterpart: OpenGVLab/Vision-RWKV: the CUDA operator bi_wkv.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor


class _Sums(NamedTuple):
    """Sum of weighted values and sum of weights, both divided by exp(scale): nothing overflows."""

    values: Tensor
    weights: Tensor
    scale: Tensor

    def decayed(self, by: Tensor) -> "_Sums":
        return self._replace(scale=self.scale - by)


def _total(parts: Iterable[_Sums]) -> _Sums:
    parts = list(parts)
    scale = parts[0].scale
    for part in parts[1:]:
        scale = torch.maximum(scale, part.scale)
    values = weights = torch.zeros((), device=scale.device)
    for part in parts:
        factor = torch.exp(part.scale - scale)
        values, weights = values + factor * part.values, weights + factor * part.weights
    return _Sums(values, weights, scale)


def _scan(items: _Sums, decay: Tensor) -> tuple[_Sums, _Sums]:
    """Sums over all that comes before each item of axis -2, and over all items.

    One item later, a weight is exp(-decay) times what it was; an item counts in full right after its place.
    """
    nothing = torch.zeros_like(items.scale[..., 0, :])
    total = _Sums(nothing, nothing, torch.full_like(nothing, -torch.inf))
    before = []
    for item in zip(*(part.unbind(-2) for part in items), strict=True):
        before.append(total)
        total = _total([total.decayed(decay), _Sums(*item)])
    return _Sums(*(torch.stack(parts, -2) for parts in zip(*before, strict=True))), total


def two_sided_wkv(k: Tensor, v: Tensor, decay: Tensor, bonus: Tensor) -> Tensor:
    """Average of all tokens' values; a weight falls with the distance in reading order, by channel.

    Token i counts for token t with exp(k_i - decay (|t - i| - 1)), and t for itself with exp(k_t + bonus). Rows are
    scanned all at once, then their sums one after the other: H + W steps, exact for any size of numbers.

    Args:
        k, v: (B, H, W, C).
        decay, bonus: (C,), of either sign.

    Returns:
        float32 (B, H, W, C).
    """
    k, v, decay, bonus = k.float(), v.float(), decay.float(), bonus.float()
    width = k.shape[2]
    steps = torch.arange(width, device=k.device)[:, None] * decay
    both_k, both_v = (torch.stack([x, x.flip(1, 2)]) for x in (k, v))
    in_row, rows = _scan(_Sums(both_v, torch.ones_like(both_v), both_k), decay)
    earlier_rows, _ = _scan(rows, width * decay)
    earlier = _Sums(*(part[..., None, :] for part in earlier_rows)).decayed(steps)
    parts = [_Sums(v, torch.ones_like(v), k + bonus)]
    for sums in (in_row, earlier):
        parts.append(_Sums(*(part[0] for part in sums)))
        parts.append(_Sums(*(part[1].flip(1, 2) for part in sums)))
    all_sums = _total(parts)
    return all_sums.values / all_sums.weights
