"""Position codes: sine on a grid, sine of a time, random Fourier features of points, biases of distances."""

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

from samvideo.tensors import Grid

TEMPERATURE = 10000.0


def _periods(count: int) -> Tensor:
    return TEMPERATURE ** (2 * (torch.arange(count, dtype=torch.float32) // 2) / count)


def sine_grid(grid: Grid, channels: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(1, channels, H, W): interleaved sine and cosine of y in the first half of the channels, of x in the second.

    Positions run from just above 0 to 2 pi along each side (Carion et al. 2020, DETR).
    """
    return _sine_grid(grid, channels, device, dtype)


@lru_cache(maxsize=16)
def _sine_grid(grid: Grid, channels: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    def line(length: int) -> Tensor:
        at = torch.arange(1, length + 1, dtype=torch.float32) / (length + 1e-6) * 2 * math.pi
        angles = at[:, None] / _periods(channels // 2)
        return torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], 2).flatten(1)

    height, width = grid
    with torch.inference_mode(False):  # what is cached must do for training, too
        y = line(height)[:, None].expand(height, width, channels // 2)
        x = line(width)[None].expand(height, width, channels // 2)
        return torch.cat([y, x], 2).permute(2, 0, 1)[None].contiguous().to(device, dtype)


def sine_time(times: Tensor, channels: int) -> Tensor:
    """(...) times to (..., channels): all sines, then all cosines."""
    angles = times.float()[..., None] / _periods(channels // 2).to(times.device)
    return torch.cat([angles.sin(), angles.cos()], -1)


def sine_box(boxes: Tensor, channels: int) -> Tensor:
    """(..., 4) fractions x, y, w, h to (..., 4 * channels): interleaved sine and cosine of y, x, w and h.

    The order is that of Liu et al. 2022, DAB-DETR.
    """
    angles = 2 * math.pi * boxes[..., [1, 0, 2, 3], None] / _periods(channels).to(boxes.device)
    return torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], -1).flatten(-3)


class FourierPosition(nn.Module):
    """Random Fourier features of points in [0, 1]^2 (Tancik et al. 2020); the frequencies come with the weights."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, channels // 2))

    def forward(self, xy: Tensor) -> Tensor:
        """(..., 2) coordinates in [0, 1] to (..., channels)."""
        frequencies = self.positional_encoding_gaussian_matrix
        angles = 2 * math.pi * ((2 * xy.to(frequencies.dtype) - 1) @ frequencies)
        return torch.cat([angles.sin(), angles.cos()], -1)

    def of_grid(self, grid: Grid) -> Tensor:
        """(1, channels, H, W): the code of every cell's centre."""
        height, width = grid
        device = self.positional_encoding_gaussian_matrix.device
        y = (torch.arange(height, device=device) + 0.5) / height
        x = (torch.arange(width, device=device) + 0.5) / width
        yy, xx = torch.meshgrid(y, x, indexing="ij")
        code: Tensor = self(torch.stack([xx, yy], -1))
        return code.permute(2, 0, 1)[None]


def distance_bias(table_hyx: Tensor, grid: Grid, step: int = 1) -> Tensor:
    """Biases of attention scores, learned for each head and distance between query and key (Graham et al. 2021).

    Args:
        table_hyx: (heads, rows, columns): the bias of so many rows and columns between; farther ones have the last.
        grid: height and width of the keys.
        step: queries are every so many keys along both sides.

    Returns:
        (heads, queries, keys).
    """
    last = [(n - 1) // step * step for n in grid]  # where the last queries are
    rows, columns = (
        torch.arange(-q, n, device=table_hyx.device).abs().clamp(max=side - 1)
        for q, n, side in zip(last, grid, table_hyx.shape[1:], strict=True)
    )
    # each query sees a window of one table of all differences: several times as fast as to gather them one by one
    table = table_hyx[:, rows][:, :, columns]
    windows = table.unfold(1, grid[0], step).unfold(2, grid[1], step)
    return windows.flip(1, 2).flatten(3).flatten(1, 2)
