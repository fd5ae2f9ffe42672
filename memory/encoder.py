"""Memory encoder: mask and features of a frame become one map (Ravi et al. 2024, appendix D).

Counterpart: facebookresearch/sam2: sam2/modeling/memory_encoder.py.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samvideo.nn.norm import LayerNorm2d


class _MaskDownsampler(nn.Module):
    """Four strided convolutions: (B, 1, 16 H, 16 W) to (B, width, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for _ in range(4):
            layers += [nn.Conv2d(channels, 4 * channels, 3, 2, 1), LayerNorm2d(4 * channels), nn.GELU()]
            channels *= 4
        self.encoder = nn.Sequential(*layers, nn.Conv2d(channels, width, 1))

    def forward(self, masks: Tensor) -> Tensor:
        out: Tensor = self.encoder(masks)
        return out


class _ConvNextBlock(nn.Module):
    """ConvNeXt block with layer scale (Liu et al. 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = LayerNorm2d(width)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.pwconv2 = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.norm(self.dwconv(x)).permute(0, 2, 3, 1)
        inner = self.gamma * self.pwconv2(F.gelu(self.pwconv1(inner)))
        return x + inner.permute(0, 3, 1, 2)


class _Fuser(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(_ConvNextBlock(width) for _ in range(2)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class MemoryEncoder(nn.Module):
    """Adds the downsampled mask to the projected features and mixes the sum.

    Args:
        width: channels of the features.
        out: channels of the memory.
    """

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.mask_downsampler = _MaskDownsampler(width)
        self.pix_feat_proj = nn.Conv2d(width, width, 1)
        self.fuser = _Fuser(width)
        self.out_proj = nn.Conv2d(width, out, 1)

    def forward(self, coarse: Tensor, masks: Tensor) -> Tensor:
        """(1, width, H, W) features and (B, 1, 16 H, 16 W) masks to (B, out, H, W)."""
        masks = self.mask_downsampler(masks.to(coarse.dtype))
        out: Tensor = self.out_proj(self.fuser(self.pix_feat_proj(coarse) + masks))
        return out
