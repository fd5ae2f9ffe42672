"""FastSAM3D, clicks to masks in a volume (Shen et al. 2024; the frame: SAM-Med3D, Wang et al. 2023).

Counterparts: arcadelab/FastSAM3D: segment_anything/modeling: image_encoder3D.py, prompt_encoder3D.py and
mask_decoder3D.py.
Axes of volumes are (depth, height, width), `dhw`, whatever these are in the body.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from samvideo.heads.masks import TwoWayTransformer
from samvideo.networks.base import Network
from samvideo.nn.mlp import Mlp
from samvideo.nn.norm import LayerNorm2d
from samvideo.weights.keys import SAM_MLP, renamed

KIND = "network"


@dataclass(frozen=True)
class FastSam3dConfig:
    """Sizes of the network.

    Attributes:
        side: of the input cube in voxels.
        patch: side of the encoder's patches in voxels.
        dim, heads, depth: channels, attention heads and blocks of the encoder.
        plain: the first so many blocks have no attention.
        width: channels of the embedding, of tokens and image in the decoder.
        frequencies: of the position code; `width` must be three times as many.
    """

    side: int = 128
    patch: int = 16
    dim: int = 768
    heads: int = 6
    depth: int = 6
    plain: int = 2
    width: int = 384
    frequencies: int = 128

    @property
    def grid(self) -> int:
        """Side of the embedding in tokens."""
        return self.side // self.patch


VARIANTS = {"fast-sam3d": FastSam3dConfig()}


class _Attention(nn.Module):
    """Attention over all tokens, with a learned bias for the distance along each axis."""

    def __init__(self, config: FastSam3dConfig) -> None:
        super().__init__()
        self.heads, self.grid = config.heads, config.grid
        distances, channels = 2 * config.grid - 1, config.dim // config.heads
        self.qkv = nn.Linear(config.dim, 3 * config.dim)
        self.proj = nn.Linear(config.dim, config.dim)
        self.rel_pos_d = nn.Parameter(torch.zeros(distances, channels))
        self.rel_pos_h = nn.Parameter(torch.zeros(distances, channels))
        self.rel_pos_w = nn.Parameter(torch.zeros(distances, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, H, W, C) to the same."""
        d, h, w = x.shape[1:4]
        q, k, v = rearrange(
            self.qkv(x), "b d h w (three heads c) -> three b heads (d h w) c", three=3, heads=self.heads
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=self._bias(q))
        out: Tensor = self.proj(rearrange(mixed, "b heads (d h w) c -> b d h w (heads c)", d=d, h=h, w=w))
        return out

    def _bias(self, q: Tensor) -> Tensor:
        """(B, heads, N, N): products of unscaled queries with the codes of distances, summed over the axes.

        The published sums mix up the axes, and weights are trained with it: all three distances are taken to the
        key's w, and those of h and w for the queries whose w is the key's d and h, whatever the own w of a query.
        """
        at = torch.arange(self.grid, device=q.device)
        distance = at[:, None] - at[None] + self.grid - 1
        grid = rearrange(q, "b n (d h w) c -> b n d h w c", d=self.grid, h=self.grid)
        along_d = torch.einsum("bndhwc,dkc->bndhwk", grid, self.rel_pos_d[distance])[..., None, None, :]
        along_h = torch.einsum("bndhwc,hkc->bndhwk", grid, self.rel_pos_h[distance])[..., None, :, None, :]
        along_w = torch.einsum("bndhwc,wkc->bndhwk", grid, self.rel_pos_w[distance])[..., None, None, :, :]
        return (along_d + along_h + along_w).flatten(5).flatten(2, 4)


class _Block(nn.Module):
    def __init__(self, config: FastSam3dConfig, attends: bool) -> None:
        super().__init__()
        self.attends = attends
        if attends:
            self.norm1 = nn.LayerNorm(config.dim, eps=1e-6)
            self.attn = _Attention(config)
        self.norm2 = nn.LayerNorm(config.dim, eps=1e-6)
        self.mlp = Mlp(config.dim, 4 * config.dim, config.dim, activation=F.gelu)

    def forward(self, x: Tensor) -> Tensor:
        if self.attends:
            x = x + self.attn(self.norm1(x))
        x = self.norm2(x)  # as published: unlike in SAM-Med3D, what the MLP is added to is normalised
        out: Tensor = x + self.mlp(x)
        return out


class _PatchEmbed(nn.Module):
    def __init__(self, config: FastSam3dConfig) -> None:
        super().__init__()
        self.proj = nn.Conv3d(1, config.dim, config.patch, config.patch)

    def forward(self, volume: Tensor) -> Tensor:
        """(B, 1, D, H, W) to (B, d, h, w, C)."""
        out: Tensor = self.proj(volume).movedim(1, -1)
        return out


class _Position(nn.Module):
    """Random Fourier features of points in [0, 1]^3, as in `samvideo.nn.position.FourierPosition`."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, frequencies: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(3, frequencies))

    def forward(self, places: Tensor) -> Tensor:
        """(..., 3) to (..., 3 * frequencies): sines, cosines, and the sines again."""
        angles = 2 * math.pi * ((2 * places - 1) @ self.positional_encoding_gaussian_matrix)
        sines = angles.sin()
        return torch.cat([sines, angles.cos(), sines], -1)

    def of_grid(self, side: int) -> Tensor:
        """(1, C, D, H, W) code of every cell's centre.

        As published, its first two axes are exchanged: the code of cell (d, h, w) is that of a click at (h, d, w).
        """
        at = (torch.arange(side, device=self.positional_encoding_gaussian_matrix.device) + 0.5) / side
        d, h, w = torch.meshgrid(at, at, at, indexing="ij")
        code: Tensor = self(torch.stack([h, d, w], -1))
        return code.movedim(-1, 0)[None]


class _PromptEncoder(nn.Module):
    def __init__(self, config: FastSam3dConfig) -> None:
        super().__init__()
        self.side, width = config.side, config.width
        self.pe_layer = _Position(config.frequencies)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, width) for _ in range(2))
        self.not_a_point_embed = nn.Embedding(1, width)
        self.mask_downscaling = nn.Sequential(
            nn.Conv3d(1, 4, 2, stride=2),
            LayerNorm2d(4),
            nn.GELU(),
            nn.Conv3d(4, 16, 2, stride=2),
            LayerNorm2d(16),
            nn.GELU(),
            nn.Conv3d(16, width, 1),
        )
        self.no_mask_embed = nn.Embedding(1, width)

    def points(self, clicks: Tensor, labels: Tensor) -> Tensor:
        """(B, N, 3) voxels and (B, N) labels, 1 or 0, to (B, N + 1, width) tokens; the last one is padding."""
        kinds = torch.cat(list(self.point_embeddings.parameters()))
        tokens = self.pe_layer((clicks + 0.5) / self.side) + kinds[labels]
        return torch.cat([tokens, self.not_a_point_embed.weight.expand(len(tokens), 1, -1)], 1)

    def dense(self, logits: Tensor | None) -> Tensor:
        """Map for (B, 1, 4 D, 4 H, 4 W) logits of an earlier mask; (1, width, 1, 1, 1) without one."""
        if logits is None:
            return self.no_mask_embed.weight[..., None, None, None]
        out: Tensor = self.mask_downscaling(logits)
        return out


class _MaskDecoder(nn.Module):
    def __init__(self, config: FastSam3dConfig) -> None:
        super().__init__()
        width = config.width
        self.transformer = TwoWayTransformer(width)
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(4, width)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose3d(width, width // 4, 2, stride=2),
            LayerNorm2d(width // 4),
            nn.GELU(),
            nn.ConvTranspose3d(width // 4, width // 8, 2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(Mlp(width, width, width, width // 8) for _ in range(4))
        self.iou_prediction_head = Mlp(width, 256, 256, 4)

    def forward(self, image: Tensor, image_code: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """See `FastSam3d.decode`."""
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([own.expand(len(image), -1, -1), points], 1)
        tokens, flat = self.transformer(
            image.flatten(2).transpose(1, 2), image_code.flatten(2).transpose(1, 2), tokens
        )
        upscaled = self.output_upscaling(flat.transpose(1, 2).reshape(image.shape))
        weights = [mlp(tokens[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)]
        masks = torch.einsum("bmc,bcdhw->bmdhw", torch.stack(weights, 1), upscaled)
        return masks, self.iou_prediction_head(tokens[:, 0])


class FastSam3d(Network):
    """Segments one object of a cube from clicks: a pure function, nothing is kept between calls.

    Args:
        config: sizes.
    """

    def __init__(self, config: FastSam3dConfig) -> None:
        super().__init__()
        self.config = config
        grid, dim, width = config.grid, config.dim, config.width
        self.patch_embed = _PatchEmbed(config)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, grid, dim))
        self.blocks = nn.ModuleList(_Block(config, attends=i >= config.plain) for i in range(config.depth))
        self.neck = nn.Sequential(
            nn.Conv3d(dim, width, 1, bias=False),
            LayerNorm2d(width),
            nn.Conv3d(width, width, 3, padding=1, bias=False),
            LayerNorm2d(width),
        )
        self.prompt_encoder = _PromptEncoder(config)
        self.mask_decoder = _MaskDecoder(config)

    def published(self, own: str) -> str:
        """See `Network.published`."""
        return renamed(own, SAM_MLP)

    def encode(self, volume: Tensor) -> Tensor:
        """(1, 1, 128, 128, 128) normalised intensities to the embedding (1, 384, 8, 8, 8)."""
        x = self.patch_embed(volume) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.neck(x.movedim(-1, 1))
        return out

    def decode(
        self, embedding: Tensor, clicks: Tensor, labels: Tensor, previous: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Propose four masks for each of B objects.

        Args:
            embedding: of the cube.
            clicks: (B, N, 3) depth, height and width, in voxels.
            labels: (B, N), 1 on the object, 0 beside it.
            previous: (B, 1, 32, 32, 32) logits that the clicks correct.

        Returns:
            Logits (B, 4, 32, 32, 32), positive inside, the first for unambiguous clicks, and predicted IoU (B, 4).
        """
        image = (embedding + self.prompt_encoder.dense(previous)).expand(len(clicks), -1, -1, -1, -1)
        code = self.prompt_encoder.pe_layer.of_grid(self.config.grid)
        masks, quality = self.mask_decoder(image, code, self.prompt_encoder.points(clicks, labels))
        return masks, quality


def build(config: FastSam3dConfig) -> FastSam3d:
    """A network with untrained weights."""
    return FastSam3d(config)
