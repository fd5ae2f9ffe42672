"""RAP-SAM's neck: the maps of a backbone to one of stride 4 (Hu et al. 2023, YOSO).

Counterpart: xushilin1/RAP-SAM: seg/models/necks/ramsam_neck.py.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DeformConv(nn.Module):
    """Modulated deformable 3x3 convolution without bias (Zhu et al. 2019, Deformable ConvNets v2).

    Every tap of the kernel reads where an offset in pixels moves it, bilinearly and with zeros outside of the map,
    and what it reads is weighted.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(out, channels, 3, 3)))

    def forward(self, x: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
        """(B, channels, H, W) to (B, out, H, W).

        Args:
            x: the map.
            offsets: (B, 18, H, W), dy and dx of each tap, row by row.
            weights: (B, 9, H, W).
        """
        height, width = x.shape[2:]
        y = torch.arange(height, device=x.device)[:, None]
        x0 = torch.arange(width, device=x.device)
        out = x.new_zeros(len(x), len(self.weight), height, width, dtype=torch.float32)
        for tap in range(9):  # one at a time: all nine at once would take nine maps of memory
            at_y = y + (tap // 3 - 1) + offsets[:, 2 * tap].float()
            at_x = x0 + (tap % 3 - 1) + offsets[:, 2 * tap + 1].float()
            grid = torch.stack([(2 * at_x + 1) / width - 1, (2 * at_y + 1) / height - 1], -1)
            read = F.grid_sample(x.float(), grid, padding_mode="zeros", align_corners=False)
            out += F.conv2d(read * weights[:, tap, None], self.weight[:, :, tap // 3, tap % 3, None, None])
        return out


class _Grow(nn.Module):
    """Deformable convolution, then twice the resolution."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.dcn_offset = nn.Conv2d(channels, 27, 3, padding=1)
        self.dcn = DeformConv(channels, out)
        self.dcn_bn = nn.BatchNorm2d(out)
        self.up_sample = nn.ConvTranspose2d(out, out, 4, stride=2, padding=1, bias=False)
        self.up_bn = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        moves = self.dcn_offset(x)
        x = F.relu(self.dcn_bn(self.dcn(x, moves[:, :18], moves[:, 18:].sigmoid())))
        return F.relu(self.up_bn(self.up_sample(x)))


class RapSamNeck(nn.Module):
    """Joins four maps, adds the pixels' coordinates.

    Args:
        channels: of the maps, coarsest first.
        inner: width in which they are summed.
        width: of the result.
    """

    def __init__(self, channels: Sequence[int], inner: int = 128, width: int = 256) -> None:
        super().__init__()
        halves = [count // 2 for count in channels]
        self.lateral = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(channels, halves, strict=True))
        self.grow = nn.ModuleList(_Grow(a, b) for a, b in pairwise(halves))
        self.join = nn.ModuleList(nn.Conv2d(half, inner, 1, bias=False) for half in halves)
        self.bias = nn.Parameter(torch.zeros(1, inner, 1, 1))
        self.output_conv = nn.Conv2d(inner, inner, 3, padding=1)
        self.loc_conv = nn.Conv2d(inner + 2, width, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps of strides 32, 16, 8 and 4 to (B, width, H / 4, W / 4)."""
        size = maps[-1].shape[2:]
        x = self.lateral[0](maps[0])
        total: Tensor = self.bias
        for level, join in enumerate(self.join):
            if level:
                x = self.lateral[level](maps[level]) + self.grow[level - 1](x)
            total = total + F.interpolate(join(x), size=size, mode="bilinear", align_corners=False)
        x = self.output_conv(total).float()
        yy, xx = torch.meshgrid(*(torch.linspace(-1, 1, side, device=x.device) for side in size), indexing="ij")
        with torch.autocast(x.device.type, enabled=False):  # half precision would round the coordinates
            out: Tensor = self.loc_conv(torch.cat([x, torch.stack([xx, yy]).expand(len(x), -1, -1, -1)], 1))
        return out
