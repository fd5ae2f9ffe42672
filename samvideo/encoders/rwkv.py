"""RWKV, the encoder of RWKV-SAM (Yuan et al. 2024; Vision-RWKV: Duan et al. 2024).

Counterpart: HarborYuan/ovsam: projects/rwkvsam.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samvideo.encoders.base import ImageEncoder
from samvideo.encoders.neck import SamNeck
from samvideo.errors import ConfigError
from samvideo.nn.norm import LayerNorm2d
from samvideo.nn.wkv import two_sided_wkv

KIND = "encoder"
EPS = 1e-6


@dataclass(frozen=True)
class RwkvConfig:
    """Sizes of an RWKV encoder.

    Attributes:
        stem: channels at stride 2.
        widths, depths: channels and convolutional blocks of the two stages at strides 4 and 8.
        expansion: widening inside of these blocks.
        dim: channels at stride 16, a multiple of 4.
        depth: RWKV blocks there.
        middle: the block that `stages` returns besides the last.
    """

    stem: int = 64
    widths: tuple[int, int] = (64, 128)
    depths: tuple[int, int] = (2, 4)
    expansion: int = 4
    dim: int = 384
    depth: int = 14
    middle: int = 7


VARIANTS = {"rwkv-small": RwkvConfig()}


class Stages(NamedTuple):
    """What the trunk hands on.

    Attributes:
        stage1: (B, widths[0], H / 4, W / 4).
        stage2: (B, widths[1], H / 8, W / 8).
        middle: (B, dim, H / 16, W / 16) after half of the RWKV blocks.
        last: the same after all of them and the final norm.
    """

    stage1: Tensor
    stage2: Tensor
    middle: Tensor
    last: Tensor


class _Stem(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 2, 1)
        self.norm1 = LayerNorm2d(width, EPS)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, image_bchw: Tensor) -> Tensor:
        out: Tensor = self.conv2(F.gelu(self.norm1(self.conv1(image_bchw))))
        return out


class _Shortcut(nn.Module):
    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.expand: nn.Module = nn.Conv2d(inner, outer, 1) if inner != outer else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.expand(F.avg_pool2d(x, 3, 2, 1, count_include_pad=False))
        return out


class _ConvBlock(nn.Module):
    """An inverted residual block with a norm at its beginning; the first of a stage halves the map."""

    def __init__(self, inner: int, outer: int, expansion: int, stride: int) -> None:
        super().__init__()
        middle = outer * expansion
        self.shortcut: nn.Module = _Shortcut(inner, outer) if stride > 1 else nn.Identity()
        self.pre_norm = LayerNorm2d(inner, EPS)
        self.conv1_1x1 = nn.Conv2d(inner, middle, 1)
        self.conv2_kxk = nn.Conv2d(middle, middle, 3, stride, 1, groups=middle)
        self.conv3_1x1 = nn.Conv2d(middle, outer, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.conv2_kxk(F.gelu(self.conv1_1x1(self.pre_norm(x)))))
        out: Tensor = self.conv3_1x1(y) + self.shortcut(x)
        return out


class _Pool(nn.Module):
    """Halves the map and widens it."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(inner, outer, 3, 2, 1)
        self.norm = LayerNorm2d(inner, EPS)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(self.norm(x))
        return out


def shifted(x: Tensor) -> Tensor:
    """(B, H, W, C): a quarter of the channels each from the left, right, upper and lower neighbour, or zeros."""
    left, right, upper, lower = x.chunk(4, -1)
    return torch.cat(
        [
            F.pad(left[:, :, :-1], (0, 0, 1, 0)),
            F.pad(right[:, :, 1:], (0, 0, 0, 1)),
            F.pad(upper[:, :-1], (0, 0, 0, 0, 1, 0)),
            F.pad(lower[:, 1:], (0, 0, 0, 0, 0, 1)),
        ],
        -1,
    )


def _blend(near: Tensor, own: Tensor, share: Tensor) -> Tensor:
    """Mean of both with the channels' share of `own`, which need not lie in [0, 1]."""
    return near.lerp(own, share.to(own.dtype))  # under autocast, the first block's map has fewer bits


class _SpatialMix(nn.Module):
    """What attention is in a transformer: gated averages over all pixels."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.spatial_decay = nn.Parameter(torch.zeros(dim))
        self.spatial_first = nn.Parameter(torch.zeros(dim))
        self.spatial_mix_k = nn.Parameter(torch.ones(1, 1, dim))
        self.spatial_mix_v = nn.Parameter(torch.ones(1, 1, dim))
        self.spatial_mix_r = nn.Parameter(torch.ones(1, 1, dim))
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.receptance = nn.Linear(dim, dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        near = shifted(x)
        k = self.key(_blend(near, x, self.spatial_mix_k))
        v = self.value(_blend(near, x, self.spatial_mix_v))
        gate = self.receptance(_blend(near, x, self.spatial_mix_r)).sigmoid()
        tokens = x.shape[1] * x.shape[2]
        mixed = two_sided_wkv(k, v, self.spatial_decay / tokens, self.spatial_first / tokens)
        out: Tensor = self.output(gate * mixed.to(gate.dtype))
        return out


class _ChannelMix(nn.Module):
    """What the MLP is in a transformer, gated."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.spatial_mix_k = nn.Parameter(torch.ones(1, 1, dim))
        self.spatial_mix_r = nn.Parameter(torch.ones(1, 1, dim))
        self.key = nn.Linear(dim, 2 * dim, bias=False)
        self.receptance = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(2 * dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        near = shifted(x)
        hidden = self.key(_blend(near, x, self.spatial_mix_k)).relu().square()
        gate = self.receptance(_blend(near, x, self.spatial_mix_r)).sigmoid()
        out: Tensor = gate * self.value(hidden)
        return out


class _Block(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layer_scale_1 = nn.Parameter(torch.ones(dim))
        self.layer_scale_2 = nn.Parameter(torch.ones(dim))
        self.norm1 = nn.LayerNorm(dim, EPS)
        self.norm2 = nn.LayerNorm(dim, EPS)
        self.attn = _SpatialMix(dim)
        self.mlp = _ChannelMix(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) in and out."""
        x = x + self.layer_scale_1 * self.attn(self.norm1(x))
        out: Tensor = x + self.layer_scale_2 * self.mlp(self.norm2(x))
        return out


class _Backbone(nn.Module):
    def __init__(self, config: RwkvConfig) -> None:
        super().__init__()
        self.middle = config.middle
        self.stem = _Stem(config.stem)
        inner = config.stem
        stages = []
        for width, depth in zip(config.widths, config.depths, strict=True):
            blocks = (
                _ConvBlock(width if i else inner, width, config.expansion, 1 if i else 2) for i in range(depth)
            )
            stages.append(nn.Sequential(*blocks))
            inner = width
        self.conv_stages = nn.ModuleList(stages)
        self.conv_final_pool = _Pool(inner, config.dim)
        self.layers = nn.ModuleList(_Block(config.dim) for _ in range(config.depth))
        self.final_norm = nn.LayerNorm(config.dim, EPS)

    def forward(self, image_bchw: Tensor) -> Stages:
        stage1 = self.conv_stages[0](self.stem(image_bchw))
        stage2 = self.conv_stages[1](stage1)
        x = middle = self.conv_final_pool(stage2).permute(0, 2, 3, 1)
        for i, layer in enumerate(self.layers):
            x = layer(x)
            middle = x if i == self.middle else middle
        return Stages(stage1, stage2, middle.permute(0, 3, 1, 2), self.final_norm(x).permute(0, 3, 1, 2))


class _Neck(nn.Module):
    """SAM's neck; a module of its own because the published keys have the extra level."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.out_proj = SamNeck(dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out_proj(x)
        return out


class Rwkv(ImageEncoder):
    """Convolutional stages, then blocks of linear attention at stride 16; the finer maps are the stages'."""

    step = 16
    fine = True

    def __init__(self, config: RwkvConfig) -> None:
        super().__init__()
        if config.dim % 4:
            raise ConfigError(f"an RWKV of {config.dim} channels cannot be built: a multiple of 4 expected")
        self.fine_widths = config.widths
        self.backbone = _Backbone(config)
        self.neck = _Neck(config.dim)

    def stages(self, image_bchw: Tensor) -> Stages:
        """The maps before the neck, for the same input as `forward`."""
        out: Stages = self.backbone(image_bchw)
        return out

    def forward(self, image_bchw: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `ImageEncoder.forward`."""
        maps = self.stages(image_bchw)
        return self.neck(maps.last), (maps.stage1, maps.stage2)


def build(config: RwkvConfig) -> Rwkv:
    """An RWKV encoder with untrained weights."""
    return Rwkv(config)
