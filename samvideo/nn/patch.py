"""Pictures to tokens."""

from torch import Tensor, nn


class PatchEmbed(nn.Module):
    """One strided convolution: (B, 3, H, W) to (B, H / stride, W / stride, channels)."""

    def __init__(self, channels: int, kernel: int, stride: int, padding: int = 0) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, kernel, stride, padding)

    def forward(self, image_bchw: Tensor) -> Tensor:
        """Channels last."""
        out: Tensor = self.proj(image_bchw)
        return out.permute(0, 2, 3, 1)
