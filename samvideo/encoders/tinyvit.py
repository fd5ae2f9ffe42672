"""TinyViT, the encoder of MobileSAM and TinySAM (Wu et al. 2022; Zhang et al. 2023; Shu et al. 2023).

Not timm's: that keeps attention biases between calls, also when weights are loaded after the first one.

Counterpart: ChaoningZhang/MobileSAM: mobile_sam/modeling/tiny_vit_sam.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from samvideo.encoders.base import ImageEncoder
from samvideo.encoders.neck import SamNeck
from samvideo.nn.conv import ConvNorm, fuse_children
from samvideo.nn.position import distance_bias

KIND = "encoder"
CLASSES = 1000


@dataclass(frozen=True)
class TinyVitConfig:
    """Sizes of a TinyViT.

    Attributes:
        widths: channels of the four stages; multiples of `head`, but for the first.
        depths: blocks of the stages.
        windows: sides of the attention windows of the stages after the first.
        head: channels of an attention head.
    """

    widths: tuple[int, int, int, int]
    depths: tuple[int, int, int, int] = (2, 2, 6, 2)
    windows: tuple[int, int, int] = (7, 14, 7)
    head: int = 32


VARIANTS = {
    "tinyvit-5m": TinyVitConfig((64, 128, 160, 320)),
    "tinyvit-11m": TinyVitConfig((64, 128, 256, 448)),
    "tinyvit-21m": TinyVitConfig((96, 192, 384, 576)),
}


class _Stem(nn.Module):
    """Stride 4; a module of its own because the published keys have the extra level."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            ConvNorm(3, width // 2, 3, stride=2), nn.GELU(), ConvNorm(width // 2, width, 3, stride=2)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.seq(x)
        return out


class _Separable(nn.Module):
    """1x1, depthwise 3x3 and 1x1 convolutions with GELU between them: merges patches."""

    def __init__(self, width: int, inner: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(width, inner)
        self.conv2 = ConvNorm(inner, inner, 3, stride, groups=inner)
        self.conv3 = ConvNorm(inner, out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))
        return out


class _MbConv(_Separable):
    """The same with a residual, then GELU: the blocks of the first stage."""

    def __init__(self, width: int) -> None:
        super().__init__(width, 4 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x + super().forward(x))


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window**2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to the same, attending in windows."""
        side = self.window
        qkv = self._padded(self.qkv(self.norm(x)))
        pattern = "b (r y) (c x) (heads three d) -> three (b r c) heads (y x) d"
        q, k, v = rearrange(qkv, pattern, y=side, x=side, three=3, heads=self.heads)
        bias = distance_bias(self.attention_biases.view(-1, side, side), (side, side))
        mixed = F.scaled_dot_product_attention(q, k, v, bias.to(q.dtype)[None])
        back = "(b r c) heads (y x) d -> b (r y) (c x) (heads d)"
        mixed = rearrange(mixed, back, r=qkv.shape[1] // side, c=qkv.shape[2] // side, y=side)
        out: Tensor = self.proj(mixed[:, : x.shape[1], : x.shape[2]])
        return out

    def _padded(self, qkv: Tensor) -> Tensor:
        """Fill windows that stick out with what tokens of zeros become: as published, before the norm."""
        batch, height, width = qkv.shape[:3]
        below, right = -height % self.window, -width % self.window
        if not below and not right:
            return qkv
        padded = self.qkv(self.norm.bias).repeat(batch, height + below, width + right, 1)
        padded[:, :height, :width] = qkv
        return padded


class _Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(self.norm(x))))
        return out


class _Block(nn.Module):
    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.attn = _Attention(dim, heads, window)
        self.local_conv = ConvNorm(dim, dim, 3, groups=dim)
        self.mlp = _Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same; views of one another where the map is channels-last."""
        x = x.permute(0, 2, 3, 1)
        x = (x + self.attn(x)).permute(0, 3, 1, 2)
        x = self.local_conv(x).permute(0, 2, 3, 1)
        return (x + self.mlp(x)).permute(0, 3, 1, 2)


class _Stage(nn.Module):
    def __init__(self, blocks: list[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(x)
        return x if self.downsample is None else self.downsample(x)


class TinyVit(ImageEncoder):
    """A stage of convolutions and three of windowed attention, the last at stride 16 as well."""

    step = 16
    fine = False

    def __init__(self, config: TinyVitConfig) -> None:
        super().__init__()
        widths = config.widths
        self.patch_embed = _Stem(widths[0])
        self.layers = nn.ModuleList()
        for i, (width, depth) in enumerate(zip(widths, config.depths, strict=True)):
            blocks: list[nn.Module] = [
                _Block(width, width // config.head, config.windows[i - 1]) if i else _MbConv(width)
                for _ in range(depth)
            ]
            down = _Separable(width, widths[i + 1], widths[i + 1], 2 if i < 2 else 1) if i < 3 else None
            self.layers.append(_Stage(blocks, down))
        self.neck = SamNeck(widths[-1])
        # of the classifier that the trunk was trained as
        last = widths[-1:]
        self.unused = {"norm_head.weight": last, "norm_head.bias": last}
        self.unused |= {"head.weight": (CLASSES, *last), "head.bias": (CLASSES,)}

    def forward(self, image_bchw: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `ImageEncoder.forward`."""
        x = self.patch_embed(image_bchw)
        for layer in self.layers:
            x = layer(x)
        return self.neck(x), ()

    def fuse(self, fine: Sequence[nn.Conv2d] = ()) -> bool:
        """Fold the batch norms into their convolutions; the published keys are gone after this."""
        fuse_children(self)
        return False


def build(config: TinyVitConfig) -> TinyVit:
    """A TinyViT with untrained weights."""
    return TinyVit(config)
