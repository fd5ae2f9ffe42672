"""Plain ViT, the encoder of EfficientTAM (Xiong et al. 2024; ViTDet: Li et al. 2022) and of EfficientSAM.

EfficientSAM's (Xiong et al. 2023) attends over the whole picture in every block.

Counterparts: yformer/EfficientTAM: efficient_track_anything/modeling/backbones/vitdet.py;
yformer/EfficientSAM: efficient_sam/efficient_sam_encoder.py.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from samvideo.encoders.base import WIDTH, ImageEncoder
from samvideo.errors import ConfigError
from samvideo.nn.norm import LayerNorm2d
from samvideo.nn.patch import PatchEmbed
from samvideo.nn.windows import Block, WindowAttention
from samvideo.weights.keys import renamed

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
        width: channels of the map that it makes.
    """

    dim: int
    heads: int
    depth: int = 12
    window: int = 14
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)
    names: Literal["efficienttam", "efficientsam"] = "efficienttam"
    width: int = WIDTH


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


class _Trunk(nn.Module):
    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        dim = config.dim
        self.patch_embed = PatchEmbed(config.dim, PATCH, PATCH)
        # the first row belonged to a class token, which is not used
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + TABLE**2, config.dim))
        self.blocks = nn.ModuleList(
            Block(
                WindowAttention(dim, config.heads), dim, 4 * dim, 0 if i in config.global_blocks else config.window
            )
            for i in range(config.depth)
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
    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.conv_1x1 = nn.Conv2d(dim, width, 1, bias=False)
        self.norm_0 = LayerNorm2d(width)
        self.conv_3x3 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm_1 = LayerNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm_1(self.conv_3x3(self.norm_0(self.conv_1x1(x))))
        return out


class _Neck(nn.Module):
    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList([_Project(dim, width)])

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
        self.neck = _Neck(config.dim, config.width)

    def forward(self, image_bchw: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `ImageEncoder.forward`."""
        return self.neck(self.trunk(image_bchw)), ()

    def published(self, own: str) -> str:
        """See `ImageEncoder.published`."""
        return renamed(own, EFFICIENT_SAM_NAMES) if self.config.names == "efficientsam" else own


def build(config: VitConfig) -> PlainVit:
    """A plain ViT with untrained weights."""
    return PlainVit(config)
