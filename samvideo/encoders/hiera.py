"""Hiera, the encoder of SAM 2 (Ryali et al. 2023; Ravi et al. 2024, appendix D).

Counterpart: facebookresearch/sam2: sam2/modeling/backbones/hieradet.py. The attention is hiera-transformer's.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from samvideo.encoders.base import ImageEncoder
from samvideo.encoders.neck import PyramidNeck
from samvideo.nn.mlp import Mlp
from samvideo.nn.patch import PatchEmbed

with warnings.catch_warnings():  # hiera-transformer still imports timm by an old path
    warnings.simplefilter("ignore", FutureWarning)
    from hiera.hiera import MaskUnitAttention

KIND = "encoder"


@dataclass(frozen=True)
class HieraConfig:
    """Sizes of a Hiera trunk.

    Attributes:
        dim: channels of the first stage; each stage doubles them.
        heads: attention heads of the first stage; doubled likewise.
        stages: blocks per stage.
        global_blocks: blocks that attend over the whole picture.
        windows: side of the attention windows per stage.
        background: side of the coarse table of absolute positions.
    """

    dim: int
    heads: int
    stages: tuple[int, int, int, int]
    global_blocks: tuple[int, ...]
    windows: tuple[int, int, int, int] = (8, 4, 14, 7)
    background: int = 7


VARIANTS = {
    "hiera-tiny": HieraConfig(96, 1, (1, 2, 7, 2), (5, 7, 9)),
    "hiera-small": HieraConfig(96, 1, (1, 2, 11, 2), (7, 10, 13)),
    "hiera-base-plus": HieraConfig(112, 2, (2, 3, 16, 3), (12, 16, 20), background=14),
    "hiera-large": HieraConfig(144, 2, (2, 6, 36, 4), (23, 33, 43), windows=(8, 4, 16, 8)),
}


class WindowAttention(MaskUnitAttention):  # type: ignore[misc]
    """hiera-transformer's attention with the windows in the batch axis.

    Its own forward hands five axes to `scaled_dot_product_attention`, which has fused kernels for four only:
    2.4 times slower over 4096 tokens on one CPU core. Same numbers, same keys.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) tokens ordered (pooling phase, place in the window, window) to (B, N / q_stride, dim_out)."""
        count = x.shape[1] // (self.q_stride * self.window_size) if self.use_mask_unit_attn else 1
        q, k, v = rearrange(
            self.qkv(x), "b (n w) (three heads c) -> three (b w) heads n c", w=count, three=3, heads=self.heads
        )
        if self.q_stride > 1:
            q = q.unflatten(2, (self.q_stride, -1)).amax(2)
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(rearrange(mixed, "(b w) heads n c -> b (n w) (heads c)", w=count))
        return out


class _Block(nn.Module):
    """Windowed (global if `window` is 0) attention and MLP; `pool` halves queries and shortcut by maxima."""

    def __init__(self, dim: int, dim_out: int, heads: int, window: int, pool: bool) -> None:
        super().__init__()
        self.window, self.pool = window, 2 if pool else 1
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = WindowAttention(
            dim, dim_out, heads, self.pool**2, (window // self.pool) ** 2, use_mask_unit_attn=window > 0
        )
        self.norm2 = nn.LayerNorm(dim_out, eps=1e-6)
        self.mlp = Mlp(dim_out, 4 * dim_out, dim_out, activation=F.gelu)
        if dim != dim_out:
            self.proj = nn.Linear(dim, dim_out)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        if hasattr(self, "proj"):
            x = self.proj(normed)
        if self.pool > 1:
            x = F.max_pool2d(x.permute(0, 3, 1, 2), self.pool).permute(0, 2, 3, 1)
        x = x + self._attend(normed)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out

    def _attend(self, x: Tensor) -> Tensor:
        """(B, H, W, C); windows that stick out are filled with zeros, which take part in the attention."""
        height, width = x.shape[1:3]
        side_y, side_x = (self.window, self.window) if self.window else (height, width)
        x = F.pad(x, (0, 0, 0, -width % side_x, 0, -height % side_y))
        rows, columns = x.shape[1] // side_y, x.shape[2] // side_x
        p = self.pool
        tokens = rearrange(x, "b (r y p) (c x q) d -> b (p q y x r c) d", r=rows, c=columns, p=p, q=p)
        mixed: Tensor = rearrange(
            self.attn(tokens), "b (y x r c) d -> b (r y) (c x) d", r=rows, c=columns, y=side_y // p, x=side_x // p
        )
        return mixed[:, : height // p, : width // p]


class _Trunk(nn.Module):
    def __init__(self, config: HieraConfig) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(config.dim, 7, 4, 3)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.dim, config.background, config.background))
        self.pos_embed_window = nn.Parameter(torch.zeros(1, config.dim, config.windows[0], config.windows[0]))
        self.blocks = nn.ModuleList()
        self.ends = [sum(config.stages[: i + 1]) - 1 for i in range(4)]
        dim, heads = config.dim, config.heads
        for stage, count in enumerate(config.stages):
            for i in range(count):
                index = len(self.blocks)
                first = stage > 0 and i == 0
                # the block that pools still works in the windows of the stage before
                window = 0 if index in config.global_blocks else config.windows[stage - first]
                dim_out, heads = (2 * dim, 2 * heads) if first else (dim, heads)
                self.blocks.append(_Block(dim, dim_out, heads, window, pool=first))
                dim = dim_out

    def forward(self, image_bchw: Tensor) -> list[Tensor]:
        x = self.patch_embed(image_bchw)
        x = x + self._position(x.shape[1], x.shape[2])
        maps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.ends:
                maps.append(x.permute(0, 3, 1, 2))
        return maps

    def _position(self, height: int, width: int) -> Tensor:
        side = self.pos_embed_window.shape[-1]
        background = F.interpolate(self.pos_embed, size=(height, width), mode="bicubic", align_corners=False)
        tiled = self.pos_embed_window.tile(1, 1, -(-height // side), -(-width // side))
        return (background + tiled[..., :height, :width]).permute(0, 2, 3, 1)


class Hiera(ImageEncoder):
    """Four stages of transformer blocks, strides 4 to 32, with a feature pyramid on top."""

    step = 32
    fine = True

    def __init__(self, config: HieraConfig) -> None:
        super().__init__()
        self.trunk = _Trunk(config)
        self.neck = PyramidNeck([config.dim * 2**i for i in range(4)])

    def forward(self, image_bchw: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `ImageEncoder.forward`."""
        coarse, fine = self.neck(self.trunk(image_bchw))
        return coarse, fine

    def fuse(self, fine: Sequence[nn.Conv2d] = ()) -> bool:
        """See `ImageEncoder.fuse`."""
        return self.neck.fold(fine)


def build(config: HieraConfig) -> Hiera:
    """A Hiera with untrained weights."""
    return Hiera(config)
