"""EfficientViT, the encoder of EfficientViT-SAM (Zhang et al. 2024; Cai et al. 2023).

Counterpart: mit-han-lab/efficientvit: efficientvit/models/efficientvit/sam.py and backbone.py (L series).
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from samvideo.encoders.base import WIDTH, ImageEncoder
from samvideo.nn.conv import fuse_children
from samvideo.nn.norm import LayerNorm2d

KIND = "encoder"
HEAD = 32
"""Width of an attention head."""
NORM_EPS = 1e-6
SUM_EPS = 1e-15
Kind = Literal["res", "fmb", "mb", "att"]


@dataclass(frozen=True)
class EfficientVitConfig:
    """Sizes of an EfficientViT and its neck.

    Attributes:
        depths: blocks of each stage beyond the one that halves the map.
        widths: channels of each stage.
        kinds: of the blocks: "res" two 3x3 convolutions; "fmb" 3x3 to the expanded width, 1x1; "mb" 1x1, depthwise
            3x3, 1x1; "att" linear attention, then "mb".
        expansions: widening inside of the blocks.
        light: whether a stage has batch norms at the end of its blocks only.
        kernel: side of the convolutions that gather the neighbours for attention.
        neck_depth, neck_expansion: of the "fmb" blocks after the last three stages' maps are summed.
        stride: of the output.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...] = (32, 64, 128, 256, 512)
    kinds: tuple[Kind, ...] = ("res", "fmb", "fmb", "mb", "att")
    expansions: tuple[int, ...] = (1, 4, 4, 4, 6)
    light: tuple[bool, ...] = (False, False, False, True, True)
    kernel: int = 5
    neck_depth: int = 4
    neck_expansion: int = 1
    stride: int = 16


_L = {
    "efficientvit-l0": EfficientVitConfig((1, 1, 1, 4, 4)),
    "efficientvit-l1": EfficientVitConfig((1, 1, 1, 6, 6), neck_depth=8),
    "efficientvit-l2": EfficientVitConfig((1, 2, 2, 8, 8), neck_depth=12),
}
_XL0 = EfficientVitConfig(
    (0, 1, 1, 2, 3, 3),
    widths=(32, 64, 128, 256, 512, 1024),
    kinds=("res", "fmb", "fmb", "fmb", "att", "att"),
    expansions=(1, 4, 4, 4, 4, 6),
    light=(False, False, False, False, True, True),
    kernel=3,
    neck_depth=6,
    neck_expansion=4,
)
VARIANTS = {
    **_L,
    **{f"{name}-dense": replace(config, stride=8) for name, config in _L.items()},
    "efficientvit-xl0": _XL0,
    "efficientvit-xl1": replace(_XL0, depths=(1, 2, 2, 4, 6, 6), neck_depth=12),
}


class _Conv(nn.Module):
    """Convolution, batch norm, tanh-approximated GELU; the last two if wanted."""

    def __init__(
        self,
        inner: int,
        outer: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        norm: bool = True,
        activate: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inner, outer, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.norm: nn.Module = nn.BatchNorm2d(outer, eps=NORM_EPS) if norm else nn.Identity()
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return F.gelu(x, approximate="tanh") if self.activate else x

    def fuse(self) -> "_Conv":
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv, self.norm = fuse_conv_bn_eval(self.conv, self.norm), nn.Identity()
        return self


def _layers(
    kind: Kind, inner: int, outer: int, expansion: int, *, stride: int = 1, light: bool = False
) -> nn.Module:
    """The convolutions of a block, under their published names."""
    middle = inner * expansion
    first = partial(_Conv, bias=light, norm=not light, activate=True)
    names: tuple[str, ...]
    if kind == "res":
        names = ("conv1", "conv2")
        parts = [first(inner, middle, 3, stride=stride), _Conv(middle, outer, 3)]
    elif kind == "fmb":
        names = ("spatial_conv", "point_conv")
        parts = [first(inner, middle, 3, stride=stride), _Conv(middle, outer)]
    else:
        names = ("inverted_conv", "depth_conv", "point_conv")
        parts = [first(inner, middle), first(middle, middle, 3, stride=stride, groups=middle), _Conv(middle, outer)]
    return nn.Sequential(OrderedDict(zip(names, parts, strict=True)))


class _LinearAttention(nn.Module):
    """ReLU linear attention over single pixels and, in further heads, over their neighbourhoods."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        inner = 3 * width
        self.qkv = _Conv(width, inner, norm=False)
        gather = nn.Conv2d(inner, inner, kernel, padding=kernel // 2, groups=inner, bias=False)
        mix = nn.Conv2d(inner, inner, 1, groups=inner // HEAD, bias=False)
        self.aggreg = nn.ModuleList([nn.Sequential(gather, mix)])
        self.proj = _Conv(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x)
        both = torch.cat([qkv, self.aggreg[0](qkv)], 1)
        out: Tensor = self.proj(_attend(both).to(x.dtype))
        return out


def _attend(qkv: Tensor) -> Tensor:
    """(B, heads * 3 * 32, H, W) to float32 (B, heads * 32, H, W); sums over all pixels want float32."""
    device = qkv.device.type
    exact = torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()
    with exact:
        q, k, v = rearrange(qkv.float(), "b (heads three c) y x -> three b heads c (y x)", three=3, c=HEAD)
        q, k = q.relu(), k.relu()
        mixed = F.pad(v, (0, 0, 0, 1), value=1) @ k.transpose(-1, -2) @ q
        out = mixed[..., :-1, :] / (mixed[..., -1:, :] + SUM_EPS)
        return rearrange(out, "b heads c (y x) -> b (heads c) y x", y=qkv.shape[-2])


class _Block(nn.Module):
    """`main`, around which goes a shortcut or not."""

    def __init__(self, main: nn.Module, *, shortcut: bool = True) -> None:
        super().__init__()
        self.main = main
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.main(x)
        return x + out if self.shortcut else out


class _Attend(nn.Module):
    """Linear attention, then a convolutional block."""

    def __init__(self, width: int, expansion: int, kernel: int) -> None:
        super().__init__()
        self.context_module = _Block(_LinearAttention(width, kernel))
        self.local_module = _Block(_layers("mb", width, width, expansion, light=True))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.local_module(self.context_module(x))
        return out


class _Ops(nn.Module):
    """A sequence with the extra level of the published names."""

    def __init__(self, parts: Iterable[nn.Module]) -> None:
        super().__init__()
        self.op_list = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.op_list(x)
        return out


def _stage(config: EfficientVitConfig, index: int) -> _Ops:
    kind, width, expansion = config.kinds[index], config.widths[index], config.expansions[index]
    light = config.light[index]
    if index:
        before = config.widths[index - 1]
        shrinking: Kind = kind if kind in ("mb", "fmb") else "mb"
        shrink = _layers(shrinking, before, width, 4 * expansion, stride=2, light=light)
        parts: list[nn.Module] = [_Block(shrink, shortcut=False)]
    else:
        parts = [_Conv(3, width, 3, stride=2, activate=True)]
    for _ in range(config.depths[index]):
        if kind == "att":
            parts.append(_Attend(width, expansion, config.kernel))
        else:
            parts.append(_Block(_layers(kind, width, width, expansion, light=light)))
    return _Ops(parts)


class _Backbone(nn.Module):
    def __init__(self, config: EfficientVitConfig) -> None:
        super().__init__()
        self.stages = nn.ModuleList(_stage(config, i) for i in range(len(config.widths)))

    def forward(self, image_bchw: Tensor) -> list[Tensor]:
        """The maps of all stages, finest first."""
        maps = [image_bchw]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[1:]


class _Neck(nn.Module):
    """The last three maps, resized to one size and summed, then convolutional blocks."""

    def __init__(self, config: EfficientVitConfig) -> None:
        super().__init__()
        self.input_ops = nn.ModuleList(_Ops([_Conv(width, WIDTH)]) for width in reversed(config.widths[-3:]))
        self.middle = _Ops(
            _Block(_layers("fmb", WIDTH, WIDTH, config.neck_expansion)) for _ in range(config.neck_depth)
        )
        self.output_ops = nn.ModuleList([_Ops([_Conv(WIDTH, WIDTH, bias=True, norm=False)])])

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        resized = [
            F.interpolate(convert(x), size=size, mode="bicubic", align_corners=False)
            for convert, x in zip(self.input_ops, reversed(maps), strict=False)
        ]
        out: Tensor = self.output_ops[0](self.middle(resized[0] + resized[1] + resized[2]))
        return out


class EfficientVit(ImageEncoder):
    """Convolutional stages, then stages with linear attention; no finer maps.

    Where a side is not a multiple of the coarsest map's stride, that map is rounded up before it is resized.
    """

    step = 32
    fine = False

    def __init__(self, config: EfficientVitConfig) -> None:
        super().__init__()
        self.stride = config.stride
        self.backbone = _Backbone(config)
        self.neck = _Neck(config)
        self.norm = LayerNorm2d(WIDTH)

    def forward(self, image_bchw: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `ImageEncoder.forward`."""
        height, width = (side // self.stride for side in image_bchw.shape[-2:])
        return self.norm(self.neck(self.backbone(image_bchw), (height, width))), ()

    def fuse(self, fine: Sequence[nn.Conv2d] = ()) -> bool:
        """Fold batch norms into convolutions; the published keys are gone after this."""
        fuse_children(self)
        return False


def build(config: EfficientVitConfig) -> EfficientVit:
    """An EfficientViT with untrained weights."""
    return EfficientVit(config)
