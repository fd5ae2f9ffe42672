"""Two-sided WKV, the linear attention of Vision-RWKV (Duan et al. 2024), on a map of tokens.

Counterpart: OpenGVLab/Vision-RWKV: the CUDA operator bi_wkv.
"""

import torch
from torch import Tensor


def two_sided_wkv(k: Tensor, v: Tensor, decay: Tensor, bonus: Tensor) -> Tensor:
    """Average of all tokens' values; a weight falls with the distance in reading order, by channel.

    Token i counts for token t with exp(k_i - decay (|t - i| - 1)), and t for itself with exp(k_t + bonus). All rows
    are scanned at once, from what the rows before and after them sum up to: 2 W + H steps. Sums of a row have an
    exponent of their own, so that keys may be of any size; `decay` times W, and `bonus`, may reach about 40.

    Args:
        k, v: (B, H, W, C).
        decay, bonus: (C,), of either sign.

    Returns:
        float32 (B, H, W, C).
    """
    k, v, decay, bonus = k.float(), v.float(), decay.float(), bonus.float()
    width = k.shape[2]
    top = k.amax(2)
    weights = torch.exp(k - top[:, :, None])
    items = torch.stack([weights * v, weights], 3)  # (B, H, W, 2, C)
    fades = torch.exp(-decay * torch.arange(width, device=k.device)[:, None])[:, None]  # by distance
    above, above_scale = _carry((items * fades.flip(0)).sum(2), top, width * decay)
    below, below_scale = (x.flip(1) for x in _carry((items * fades).sum(2).flip(1), top.flip(1), width * decay))
    scale = torch.maximum(torch.maximum(above_scale, below_scale), top)
    tokens = (items * torch.exp(top - scale)[:, :, None, None]).unbind(2)
    fade, own = torch.exp(-decay), torch.exp(bonus)
    sums = above * torch.exp(above_scale - scale)[:, :, None]
    before = []
    for token in tokens:
        before.append(torch.addcmul(sums, token, own))
        sums = torch.addcmul(token, sums, fade)
    sums = below * torch.exp(below_scale - scale)[:, :, None]
    out = []
    for token, earlier in zip(reversed(tokens), reversed(before), strict=True):
        value, weight = (earlier + sums).unbind(2)
        out.append(value / weight)
        sums = torch.addcmul(token, sums, fade)
    return torch.stack(out[::-1], 2)


def _carry(rows: Tensor, scales: Tensor, decay: Tensor) -> tuple[Tensor, Tensor]:
    """What has summed up before each row, and its exponent.

    Args:
        rows: (B, H, 2, C) sums of each row, to be multiplied by exp(scales).
        scales: (B, H, C).
        decay: (C,) exponent by which weights fall from row to row.
    """
    sums, scale = torch.zeros_like(rows[:, 0]), torch.full_like(scales[:, 0], -torch.inf)
    before = []
    for row, top in zip(rows.unbind(1), scales.unbind(1), strict=True):
        before.append((sums, scale))
        faded = scale - decay
        scale = torch.maximum(faded, top)
        sums = sums * torch.exp(faded - scale)[:, None] + row * torch.exp(top - scale)[:, None]
    all_sums, all_scales = zip(*before, strict=True)
    return torch.stack(all_sums, 1), torch.stack(all_scales, 1)
