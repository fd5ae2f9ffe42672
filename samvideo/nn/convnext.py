"""ConvNeXt blocks (Liu et al. 2022), and what the whole map says."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samvideo.nn.norm import LayerNorm2d


class ConvNextBlock(nn.Module):
    """A ConvNeXt block with a small expansion.

    Args:
        width: channels.
        kernel: of the depthwise convolution, odd.
        expansion: channels inside, in widths.
    """

    def __init__(self, width: int, kernel: int, expansion: int = 2) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = LayerNorm2d(width)
        self.grow = nn.Conv2d(width, expansion * width, 1)
        self.shrink = nn.Conv2d(expansion * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in and out."""
        out: Tensor = x + self.shrink(F.gelu(self.grow(self.norm(self.spatial(x)))))
        return out


class GlobalContext(nn.Module):
    """Adds what the whole map says, its mean and maximum, to every place.

    Args:
        width: channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Conv2d(2 * width, width, 1), nn.GELU(), nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in and out."""
        out: Tensor = x + self.mlp(torch.cat([x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)], 1))
        return out
