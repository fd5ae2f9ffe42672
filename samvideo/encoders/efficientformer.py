"""EfficientFormerV2 (Li et al. 2023) in SAM's frame, as ESAM is described; ESAM has no published code or weights.

Of ESAM ("Efficient SAM for Medical Image Analysis", 2023) it is known that its encoder is an EfficientFormerV2,
distilled from SAM's. How the trunk's maps become SAM's is chosen here: the two coarsest are added, as in EdgeSAM.

The trunk equals timm's, whose tables of attention biases fit one input size only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from samvideo.encoders.base import ImageEncoder
from samvideo.encoders.neck import SumNeck
from samvideo.nn.conv import ConvNorm, fuse_children
from samvideo.nn.position import distance_bias

KIND = "encoder"
HEADS = 8
VALUE_RATIO = 4
"""Channels of a head's values to those of its keys."""


@dataclass(frozen=True)
class EfficientFormerConfig:
    """Sizes of an EfficientFormerV2.

    Attributes:
        widths: channels of the four stages.
        ratios: of every block of a stage, the inner width of its MLP to the outer.
        attending: so many last blocks of the last two stages have attention.
        side: of the input for which the tables of attention biases are made, in pixels; larger inputs share the
            biases of the farthest.
    """

    widths: tuple[int, int, int, int]
    ratios: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    attending: int
    side: int = 1024


VARIANTS = {
    "efficientformer-s0": EfficientFormerConfig(
        (32, 48, 96, 176), ((4,) * 2, (4,) * 2, (4, 3, 3, 3, 4, 4), (4, 3, 3, 4)), 2
    ),
    "efficientformer-s1": EfficientFormerConfig(
        (32, 48, 120, 224), ((4,) * 3, (4,) * 3, (4, 4, 3, 3, 3, 3, 4, 4, 4), (4, 4, 3, 3, 4, 4)), 2
    ),
    "efficientformer-s2": EfficientFormerConfig(
        (32, 64, 144, 288), ((4,) * 4, (4,) * 4, (4,) * 2 + (3,) * 6 + (4,) * 4, (4, 4, 3, 3, 3, 3, 4, 4)), 4
    ),
    "efficientformer-l": EfficientFormerConfig(
        (40, 80, 192, 384), ((4,) * 5, (4,) * 5, (4,) * 4 + (3,) * 7 + (4,) * 4, (4,) * 3 + (3,) * 4 + (4,) * 3), 6
    ),
}


def _conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> ConvNorm:
    return ConvNorm(inputs, outputs, kernel, stride, groups, bias=True)


class _Mixer(nn.Module):
    """Attention over the whole map; values also go through a depthwise convolution.

    Args:
        dim, out: channels.
        key: channels of a head's keys.
        side: of the table of biases.
        step: queries are every so many positions along both sides.
    """

    def __init__(self, dim: int, out: int, key: int, side: int, step: int = 1) -> None:
        super().__init__()
        inner = HEADS * VALUE_RATIO * key
        self.key, self.side, self.step = key, side, step
        self.k = _conv(dim, HEADS * key)
        self.v = _conv(dim, inner)
        self.v_local = _conv(inner, inner, 3, step, groups=inner)
        self.proj = _conv(inner, out)
        self.attention_biases = nn.Parameter(torch.zeros(HEADS, side**2))

    def scores(self, queries: Tensor, x: Tensor) -> Tensor:
        """(B, heads, N, M) of two maps, before the softmax."""
        q, k = (rearrange(y, "b (h d) y x -> b h (y x) d", h=HEADS) for y in (queries, self.k(x)))
        table = self.attention_biases.view(-1, self.side, self.side)
        bias = distance_bias(table, (x.shape[2], x.shape[3]), self.step)
        return (q * self.key**-0.5) @ k.transpose(2, 3) + bias.to(q.dtype)

    def mixed(self, weights: Tensor, x: Tensor) -> Tensor:
        """(B, inner, h, w): the values of a map by weights, and around every position."""
        v = self.v(x)
        local: Tensor = self.v_local(v)
        mixed = weights @ rearrange(v, "b (h d) y x -> b h (y x) d", h=HEADS)
        return rearrange(mixed, "b h (y x) d -> b (h d) y x", y=local.shape[2]) + local


def _across_heads(scores: Tensor, conv: nn.Conv2d) -> Tensor:
    """A 1x1 convolution as one matrix product: maps of scores are never copied to channels-last."""
    assert conv.bias is not None
    batch, heads = scores.shape[:2]
    weight = conv.weight.flatten(1).expand(batch, -1, -1)
    return torch.baddbmm(conv.bias[:, None], weight, scores.view(batch, heads, -1)).view_as(scores)


class _Attention(_Mixer):
    """With a convolution across the heads before and after the softmax; at stride 16 on a map of half the size."""

    def __init__(self, dim: int, side: int, stride: int) -> None:
        super().__init__(dim, dim, 32, side)
        self.stride_conv = _conv(dim, dim, 3, stride, groups=dim) if stride > 1 else None
        self.q = _conv(dim, HEADS * self.key)
        self.talking_head1 = nn.Conv2d(HEADS, HEADS, 1)
        self.talking_head2 = nn.Conv2d(HEADS, HEADS, 1)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        if self.stride_conv is not None:
            x = self.stride_conv(x)
        scores = _across_heads(self.scores(self.q(x), x), self.talking_head1)
        weights = _across_heads(scores.softmax(-1), self.talking_head2)
        x = self.mixed(weights, x)
        if self.stride_conv is not None:
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        out: Tensor = self.proj(F.gelu(x))
        return out


class _HalvedQuery(nn.Module):
    """Queries at every second position, from there and from around it."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.local = nn.Conv2d(dim, dim, 3, 2, 1, groups=dim)
        self.proj = _conv(dim, out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(self.local(x) + x[..., ::2, ::2])
        return out


class _HalvingAttention(_Mixer):
    def __init__(self, dim: int, out: int, side: int) -> None:
        super().__init__(dim, out, 16, side, step=2)
        self.q = _HalvedQuery(dim, HEADS * self.key)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(F.gelu(self.mixed(self.scores(self.q(x), x).softmax(-1), x)))
        return out


class _Downsample(nn.Module):
    def __init__(self, dim: int, out: int, side: int | None) -> None:
        super().__init__()
        self.conv = _conv(dim, out, 3, 2)
        self.attn = None if side is None else _HalvingAttention(dim, out, side)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out if self.attn is None else self.attn(x) + out


class _Mlp(nn.Module):
    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.fc1 = _conv(dim, inner)
        self.mid = _conv(inner, inner, 3, groups=inner)
        self.fc2 = _conv(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.mid(F.gelu(self.fc1(x)))))
        return out


class _Scale(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma[:, None, None]


class _Block(nn.Module):
    def __init__(self, dim: int, ratio: int, token_mixer: nn.Module | None) -> None:
        super().__init__()
        self.token_mixer = token_mixer
        self.ls1 = None if token_mixer is None else _Scale(dim)
        self.mlp = _Mlp(dim, ratio * dim)
        self.ls2 = _Scale(dim)

    def forward(self, x: Tensor) -> Tensor:
        if self.token_mixer is not None and self.ls1 is not None:
            x = x + self.ls1(self.token_mixer(x))
        out: Tensor = x + self.ls2(self.mlp(x))
        return out


class _Stage(nn.Module):
    def __init__(self, downsample: nn.Module, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(self.downsample(x))
        return out


class _Stem(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = _conv(3, width // 2, 3, 2)
        self.conv2 = _conv(width // 2, width, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.conv2(F.gelu(self.conv1(x))))


class EfficientFormer(ImageEncoder):
    """Convolutions at strides 4 and 8; attention besides, over the whole map, at strides 16 and 32."""

    step = 32
    fine = False

    def __init__(self, config: EfficientFormerConfig) -> None:
        super().__init__()
        widths, near, far = config.widths, config.side // 16, config.side // 32
        self.stem = _Stem(widths[0])
        self.stages = nn.ModuleList()
        for i, (width, ratios) in enumerate(zip(widths, config.ratios, strict=True)):
            down = _Downsample(widths[i - 1], width, near if i == 3 else None) if i else nn.Identity()
            plain = len(ratios) - (config.attending if i >= 2 else 0)
            # at stride 16 positions are halved before they attend
            mixers = [
                _Attention(width, far, 2 if i == 2 else 1) if j >= plain else None for j in range(len(ratios))
            ]
            blocks = zip(ratios, mixers, strict=True)
            self.stages.append(_Stage(down, [_Block(width, ratio, mixer) for ratio, mixer in blocks]))
        self.neck = SumNeck(*widths[-2:])

    def forward(self, image_bchw: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `ImageEncoder.forward`."""
        maps = [self.stem(image_bchw)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return self.neck(*maps[-2:]), ()

    def fuse(self, fine: Sequence[nn.Conv2d] = ()) -> bool:
        """Fold the batch norms into their convolutions, and what the neck can."""
        fuse_children(self)
        return False


def build(config: EfficientFormerConfig) -> EfficientFormer:
    """An EfficientFormerV2 with untrained weights."""
    return EfficientFormer(config)
