"""Axial rotary position code in real arithmetic (Su et al. 2021; axial form: Heo et al. 2024, RoPE-ViT).

Counterpart: facebookresearch/sam2: position_encoding.py, compute_axial_cis and apply_rotary_enc (complex there).
"""

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samvideo.nn.hooks import is_hooked
from samvideo.tensors import Grid

THETA = 10000.0


class RotaryTable(NamedTuple):
    """Cosine and sine, (N, C) each, of the angles of N tokens on a grid; neighbouring channels share an angle."""

    cos: Tensor
    sin: Tensor


def rotary_table(grid: Grid, channels: int, device: torch.device, dtype: torch.dtype) -> RotaryTable:
    """Angles for the tokens of a grid, row by row: half of the channel pairs turn with x, the others with y."""
    return _rotary_table(grid, channels, device, dtype)


@lru_cache(maxsize=16)
def _rotary_table(grid: Grid, channels: int, device: torch.device, dtype: torch.dtype) -> RotaryTable:
    height, width = grid
    with torch.inference_mode(False):  # what is cached must do for training, too
        rates = THETA ** -(torch.arange(0, channels, 4, dtype=torch.float32) / channels)
        x = torch.arange(width, dtype=torch.float32).repeat(height)
        y = torch.arange(height, dtype=torch.float32).repeat_interleave(width)
        angles = torch.cat([x[:, None] * rates, y[:, None] * rates], 1).repeat_interleave(2, 1).to(device)
        return RotaryTable(angles.cos().to(dtype), angles.sin().to(dtype))


def rotate(x: Tensor, turned: Tensor, table: RotaryTable) -> Tensor:
    """Turn the channel pairs (2i, 2i + 1) of x (..., N, C) by the table's angles; `turned` is `quarter_turn(x)`."""
    return torch.addcmul(x * table.cos, turned, table.sin)


def quarter_turn(x: Tensor) -> Tensor:
    """Every pair (a, b) of the first axis becomes (-b, a)."""
    pairs = x.reshape(-1, 2, *x.shape[1:])
    return torch.stack([-pairs[:, 1], pairs[:, 0]], 1).flatten(0, 1)


def project_rotated(layer: nn.Linear, x: Tensor, grid: Grid) -> Tensor:
    """rotate(layer(x)) for the tokens of a grid (..., N, C).

    The quarter turn is linear, so a second product with turned weights gives it: two passes over contiguous memory
    in place of eight over every other channel.
    """
    y = layer(x)
    if is_hooked(layer):
        turned = quarter_turn(y.movedim(-1, 0)).movedim(0, -1)
    else:
        turned = F.linear(x, quarter_turn(layer.weight), quarter_turn(layer.bias))
    return rotate(y, turned, rotary_table(grid, y.shape[-1], y.device, y.dtype))
