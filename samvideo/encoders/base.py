"""What every image encoder is: `forward(image_bchw) -> (coarse, fine)`, declared by a few attributes."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from samvideo.errors import ConfigError

WIDTH = 256
"""Channels of the maps that encoders hand to heads and memory."""


class ImageEncoder(nn.Module):
    """A pure function from a normalised picture to feature maps: a trunk and, as `neck`, what follows it.

    Attributes:
        step: input height and width must be multiples of this.
        fine: whether the stride-4 and stride-8 maps come along (the mask decoder then uses them).
        fine_widths: their channels, finest first.
        stride: of the coarse map; memory needs 16.
        unused: entries of the published checkpoint that inference does not read, with their shapes.
    """

    step: int
    fine: ClassVar[bool]
    fine_widths: tuple[int, int] = (WIDTH, WIDTH)
    stride: int = 16
    unused: Mapping[str, tuple[int, ...]] = {}

    def forward(self, image_bchw: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Feature maps, the coarse one of width 256.

        Args:
            image_bchw: (B, 3, H, W), mean and deviation already taken out.

        Returns:
            The coarse map (B, 256, H / stride, W / stride) and the finer maps, finest first: strides 4 and 8,
            or none.
        """
        raise NotImplementedError

    def published(self, own: str) -> str:
        """Name in the published checkpoint, without the encoder's prefix, of an entry of the state dict."""
        return own

    def fuse(self, fine: Sequence[nn.Conv2d] = ()) -> bool:
        """Fold what can be folded for inference (batch norms, branches); once, after weights are loaded.

        Args:
            fine: 1x1 convolutions that the fine maps go through next, finest first, to be folded in as well.

        Returns:
            Whether `fine` was folded in: the fine maps then come out in the widths of these.
        """
        return False


def check_multiple(size_wh: tuple[int, int], step: int, who: str) -> None:
    """Raise ConfigError unless both sides are multiples of `step`."""
    if min(size_wh) < step or any(side % step for side in size_wh):
        nearest = tuple(max(step, round(side / step) * step) for side in size_wh)
        raise ConfigError(
            f"input size {size_wh[0]}x{size_wh[1]} does not suit {who}: multiples of {step} expected, "
            f"for example {nearest[0]}x{nearest[1]}"
        )
