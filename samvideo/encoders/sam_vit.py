"""SAM's ViT (Kirillov et al. 2023) and SlimSAM's pruned ones (Chen et al. 2023).

Counterpart: facebookresearch/segment-anything: modeling/image_encoder.py; czg1225/SlimSAM.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samvideo.encoders.base import ImageEncoder
from samvideo.encoders.neck import SamNeck
from samvideo.nn.patch import PatchEmbed
from samvideo.nn.windows import Block, RelativeAttention
from samvideo.weights.keys import SAM_MLP, renamed

KIND = "encoder"
PATCH = 16
SIDE = 64
"""Of the published tables of positions: 1024-pixel pictures in patches of 16."""


@dataclass(frozen=True)
class SamVitConfig:
    """Sizes of a ViT in SAM's frame.

    Attributes:
        dim: channels.
        heads: attention heads; divides `dim`.
        depth: number of blocks.
        global_blocks: blocks that attend over the whole picture.
        hidden: channels within the MLPs.
        window: side of the attention windows, in patches.
        side: of the tables of positions, in patches.
    """

    dim: int
    heads: int
    depth: int
    global_blocks: tuple[int, ...]
    hidden: int
    window: int = 14
    side: int = SIDE


VARIANTS = {
    "sam-vit-b": SamVitConfig(768, 12, 12, (2, 5, 8, 11), 3072),
    "sam-vit-l": SamVitConfig(1024, 16, 24, (5, 11, 17, 23), 4096),
    "sam-vit-h": SamVitConfig(1280, 16, 32, (7, 15, 23, 31), 5120),
    "sam-vit-slim-50": SamVitConfig(384, 12, 12, (2, 5, 8, 11), 1536),
    "sam-vit-slim-77": SamVitConfig(168, 12, 12, (2, 5, 8, 11), 696),
    "sam-vit-mini": SamVitConfig(192, 3, 8, (3, 7), 768, window=8, side=16),
}


class SamVit(ImageEncoder):
    """A column of equal blocks at stride 16, most of them with windowed attention; no finer maps.

    At other input sizes than the tables are made for, that of absolute positions is resized by bicubic
    interpolation, and those of relative positions by linear interpolation.
    """

    step = PATCH
    fine = False

    def __init__(self, config: SamVitConfig) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(config.dim, PATCH, PATCH)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.side, config.side, config.dim))
        windows = [0 if i in config.global_blocks else config.window for i in range(config.depth)]
        self.blocks = nn.ModuleList(
            Block(self.attention(config, window), config.dim, config.hidden, window) for window in windows
        )
        self.neck = SamNeck(config.dim)

    def attention(self, config: SamVitConfig, window: int) -> nn.Module:
        """The attention of a block, windowed or, with window 0, global."""
        return RelativeAttention(config.dim, config.heads, window or config.side)

    def forward(self, image_bchw: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `ImageEncoder.forward`."""
        x = self.patch_embed(image_bchw)
        x = x + _resized(self.pos_embed, x.shape[1:3])
        for block in self.blocks:
            x = block(x)
        return self.neck(x.permute(0, 3, 1, 2)), ()

    def published(self, own: str) -> str:
        """See `ImageEncoder.published`."""
        return renamed(own, SAM_MLP)


def _resized(table: Tensor, size: torch.Size) -> Tensor:
    """(1, H, W, C) to another height and width."""
    if table.shape[1:3] == size:
        return table
    return F.interpolate(table.permute(0, 3, 1, 2), size=size, mode="bicubic").permute(0, 2, 3, 1)


def build(config: SamVitConfig) -> SamVit:
    """A ViT in SAM's frame with untrained weights."""
    return SamVit(config)
