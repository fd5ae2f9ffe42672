"""Axial rotary position code in real arithmetic (Su et al. 2021; axial form: Heo et al. 2024, RoPE-ViT).

Counterpart: facebookresearch/sam2: position_encoding.py, compute_axial_cis and apply_rotary_enc (complex there).
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from samvideo.tensors import Grid

THETA = 10000.0


class RotaryTable(NamedTuple):
    """Cosine and sine, (N, C / 2) each, of the angles of N tokens on a grid."""

    cos: Tensor
    sin: Tensor


@lru_cache(maxsize=16)
def rotary_table(grid: Grid, channels: int, device: torch.device, dtype: torch.dtype) -> RotaryTable:
    """Angles for the tokens of a grid, row by row: half of the channel pairs turn with x, the others with y."""
    height, width = grid
    with torch.inference_mode(False):  # what is cached must do for training, too
        rates = THETA ** -(torch.arange(0, channels, 4, dtype=torch.float32) / channels)
        x = torch.arange(width, dtype=torch.float32).repeat(height)
        y = torch.arange(height, dtype=torch.float32).repeat_interleave(width)
        angles = torch.cat([torch.outer(x, rates), torch.outer(y, rates)], 1).to(device)
        return RotaryTable(angles.cos().to(dtype), angles.sin().to(dtype))


def rotate(x: Tensor, table: RotaryTable) -> Tensor:
    """Turn the channel pairs (2i, 2i + 1) of x (..., N, C) by the table's angles."""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([a * table.cos - b * table.sin, a * table.sin + b * table.cos], -1).flatten(-2)
