"""Necks: from the channels of a trunk to the 256 of heads and memory."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from samvideo.encoders.base import WIDTH
from samvideo.nn.conv import joined
from samvideo.nn.norm import LayerNorm2d


class SamNeck(nn.Sequential):
    """A 1x1 and a 3x3 convolution without biases, each followed by a LayerNorm over the channels.

    The neck of SAM (Kirillov et al. 2023), which most image models share: (B, C, h, w) to (B, 256, h, w).
    Counterpart: facebookresearch/segment-anything: modeling/image_encoder.py, ImageEncoderViT.neck.

    Args:
        channels: C, of the trunk.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, WIDTH, 1, bias=False),
            LayerNorm2d(WIDTH),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
            LayerNorm2d(WIDTH),
        )


class _Lateral(nn.Module):
    """A 1x1 convolution; a module of its own because the published keys have the extra level."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class SumNeck(nn.Module):
    """1x1 convolutions to 256 channels, the coarser map enlarged and added to the other, then SAM's neck.

    Counterpart: chongzhou96/EdgeSAM: edge_sam/modeling/rep_vit.py, fuse_stage2 and fuse_stage3.

    Args:
        near, far: channels of the maps at strides 16 and 32.
    """

    def __init__(self, near: int, far: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(near, WIDTH, 1, bias=False)
        self.far = nn.Conv2d(far, WIDTH, 1, bias=False)
        self.after = SamNeck(WIDTH)

    def forward(self, near: Tensor, far: Tensor) -> Tensor:
        """Maps at strides 16 and 32 to (B, 256, h, w) at stride 16."""
        enlarged = F.interpolate(self.far(far), scale_factor=2.0, mode="bicubic", align_corners=False)
        out: Tensor = self.after(self.near(near) + enlarged)
        return out

    def fuse(self) -> "SumNeck":
        """Fold SAM's first convolution into the two before it, in place: all are linear, as is enlarging."""
        first = self.after[0]
        if isinstance(first, nn.Conv2d):
            self.near, self.far = joined(self.near, first), joined(self.far, first)
            self.after[0] = nn.Identity()
        return self


class PyramidNeck(nn.Module):
    """1x1 convolutions to 256 channels; the stride-32 map is added to the stride-16 one and then dropped.

    Counterpart: facebookresearch/sam2: image_encoder.py, FpnNeck with fpn_top_down_levels [2, 3], scalp 1.

    Args:
        channels: of the maps at strides 4, 8, 16, 32.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        # coarsest first, as the checkpoints have it
        self.convs = nn.ModuleList(_Lateral(c) for c in reversed(channels))

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Maps at strides 4, 8, 16, 32 to the coarse map and the two fine ones."""
        top, coarse, eighth, quarter = (conv(x) for conv, x in zip(self.convs, reversed(maps), strict=True))
        coarse = coarse + F.interpolate(top, scale_factor=2.0, mode="nearest")
        return coarse, (quarter, eighth)

    def fold(self, fine: Sequence[nn.Conv2d]) -> bool:
        """Take in the 1x1 convolutions that come after the fine maps, finest first; True when there were any.

        Nothing lies between: at stride 4 the map of 256 channels, the largest of all, is never made.
        """
        laterals = [module for module in reversed(self.convs) if isinstance(module, _Lateral)]
        for lateral, after in zip(laterals, fine, strict=False):
            lateral.conv = joined(lateral.conv, after)
        return bool(fine)
