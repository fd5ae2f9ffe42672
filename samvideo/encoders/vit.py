"""Plain ViT, the encoder of EfficientTAM (Xiong et al. 2024; ViTDet: Li et al. 2022) and of EfficientSAM.

EfficientSAM's (Xiong et al. 2023) attends over the whole picture in every block.

Counterparts: yformer/EfficientTAM: efficient_track_anything/modeling/backbones/vitdet.py;
yformer/EfficientSAM: efficient_sam/efficient_sam_encoder.py.
"""

import math
import re
from dataclasses import dataclass
from itertools import product
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from samvideo.encoders.base import WIDTH, ImageEncoder
from samvideo.errors import ConfigError
from samvideo.nn.attention import attend
from samvideo.nn.mlp import Mlp
from samvideo.nn.norm import LayerNorm2d
from samvideo.nn.patch import PatchEmbed

KIND = "encoder"
PATCH = 16
TABLE = 14
"""Side of the table of absolute positions: 224-pixel pictures in patches of 16."""


@dataclass(frozen=True)
class VitConfig:
    """Sizes of a plain ViT.

    Attributes:
        dim: channels.
        heads: attention heads; divides `dim`.
        depth: number of blocks.
        window: side of the attention windows, in patches.
        global_blocks: blocks that attend over the whole picture.
        names: whose names of weights are the published ones.
    """

    dim: int
    heads: int
    depth: int = 12
    window: int = 14
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)
    names: Literal["efficienttam", "efficientsam"] = "efficienttam"


_EVERY = tuple(range(12))
VARIANTS = {
    "vit-s": VitConfig(384, 6),
    "vit-ti": VitConfig(192, 3),
    "vit-s-global": VitConfig(384, 6, global_blocks=_EVERY, names="efficientsam"),
    "vit-ti-global": VitConfig(192, 3, global_blocks=_EVERY, names="efficientsam"),
}
EFFICIENT_SAM_NAMES = (
    (r"^trunk\.", ""),
    (r"\.mlp\.layers\.0\.", ".mlp.fc1."),
    (r"\.mlp\.layers\.1\.", ".mlp.fc2."),
    (r"^neck\.convs\.0\.conv_1x1\.", "neck.0."),
    (r"^neck\.convs\.0\.norm_0\.", "neck.1."),
    (r"^neck\.convs\.0\.conv_3x3\.", "neck.2."),
    (r"^neck\.convs\.0\.norm_1\.", "neck.3."),
)
"""Patterns of own names and what EfficientSAM's checkpoint has in their place."""


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, window: int) -> Tensor:
        """(B, H, W, C) to the same, attending in windows of the given side, 0 for the whole picture.

        Windows that stick out are filled with tokens of zeros, as published. All of these have the same key and
        value, the biases, so n of them are one token whose logit is higher by log n: only the true tokens are
        projected, and the windows at the border have few keys.
        """
        height, width = x.shape[1:3]
        qkv = self.qkv(x)
        if not window:
            mixed = rearrange(self._mix(qkv, (height, width), 0), "b (y x) c -> b y x c", y=height)
        else:
            mixed = torch.empty_like(qkv[..., : qkv.shape[-1] // 3])
            for rows, columns in product(_spans(height, window), _spans(width, window)):
                part = qkv[:, rows, columns]
                y, x_ = (min(window, side) for side in part.shape[1:3])
                tokens = self._mix(part, (y, x_), window**2 - y * x_)
                mixed[:, rows, columns] = rearrange(
                    tokens, "(b r c) (y x) d -> b (r y) (c x) d", r=part.shape[1] // y, c=part.shape[2] // x_, y=y
                )
        out: Tensor = self.proj(mixed)
        return out

    def _mix(self, qkv: Tensor, side_yx: tuple[int, int], missing: int) -> Tensor:
        """(B, H, W, 3 C), cut into windows of the given sides, to (windows, tokens, C)."""
        y, x = side_yx
        pattern = "b (r y) (c x) (three heads d) -> three (b r c) heads (y x) d"
        q, k, v = rearrange(qkv, pattern, y=y, x=x, three=3, heads=self.heads)
        bias = None
        if missing:
            filler = self.qkv.bias.to(k.dtype).view(3, self.heads, 1, -1)
            k, v = (torch.cat([a, b.expand(len(a), -1, -1, -1)], 2) for a, b in ((k, filler[1]), (v, filler[2])))
            bias = F.pad(k.new_zeros(1, 1, 1, y * x), (0, 1), value=math.log(missing))
        return rearrange(attend(q, k, v, bias), "b heads n d -> b n (heads d)")


def _spans(length: int, window: int) -> list[slice]:
    """The whole windows along a side, and what is left over."""
    whole = length - length % window
    return [span for span in (slice(0, whole), slice(whole, length)) if span.start < span.stop]


class _Block(nn.Module):
    def __init__(self, config: VitConfig, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(config.dim, eps=1e-6)
        self.attn = _Attention(config.dim, config.heads)
        self.norm2 = nn.LayerNorm(config.dim, eps=1e-6)
        self.mlp = Mlp(config.dim, 4 * config.dim, config.dim, activation=F.gelu)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), self.window)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class _Trunk(nn.Module):
    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(config.dim, PATCH, PATCH)
        # the first row belonged to a class token, which is not used
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + TABLE**2, config.dim))
        self.blocks = nn.ModuleList(
            _Block(config, 0 if i in config.global_blocks else config.window) for i in range(config.depth)
        )

    def forward(self, image_bchw: Tensor) -> Tensor:
        x = self.patch_embed(image_bchw)
        table = rearrange(self.pos_embed[:, 1:], "1 (y x) c -> 1 c y x", y=TABLE)
        position = F.interpolate(table, size=x.shape[1:3], mode="bicubic", align_corners=False)
        x = x + position.permute(0, 2, 3, 1)
        for block in self.blocks:
            x = block(x)
        out: Tensor = x.permute(0, 3, 1, 2)
        return out


class _Project(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv_1x1 = nn.Conv2d(dim, WIDTH, 1, bias=False)
        self.norm_0 = LayerNorm2d(WIDTH)
        self.conv_3x3 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)
        self.norm_1 = LayerNorm2d(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm_1(self.conv_3x3(self.norm_0(self.conv_1x1(x))))
        return out


class _Neck(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList([_Project(dim)])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.convs[0](x)
        return out


class PlainVit(ImageEncoder):
    """A column of equal blocks at stride 16, with windowed or global attention; no finer maps."""

    step = PATCH
    fine = False

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        if config.dim % config.heads:
            raise ConfigError(f"{config.heads} heads do not divide {config.dim} channels")
        self.config = config
        self.trunk = _Trunk(config)
        self.neck = _Neck(config.dim)

    def forward(self, image_bchw: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `ImageEncoder.forward`."""
        return self.neck(self.trunk(image_bchw)), ()

    def published(self, own: str) -> str:
        """See `ImageEncoder.published`."""
        if self.config.names == "efficientsam":
            for pattern, theirs in EFFICIENT_SAM_NAMES:
                own = re.sub(pattern, theirs, own)
        return own


def build(config: VitConfig) -> PlainVit:
    """A plain ViT with untrained weights."""
    return PlainVit(config)
