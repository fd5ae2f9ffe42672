"""EdgeTAM's memory: a 2-D Perceiver compresses each frame to 512 tokens (Zhou et al. 2025, section 3.2).

Counterpart: facebookresearch/EdgeTAM: sam2/modeling/perceiver.py.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from samvideo.errors import ConfigError
from samvideo.memory.method import MemoryMethod, MethodConfig
from samvideo.nn.position import sine_grid
from samvideo.tensors import MemoryTokens

KIND = "memory method"


@dataclass(frozen=True)
class PerceiverConfig(MethodConfig):
    """Options of Perceiver memory.

    Attributes:
        latents: tokens that attend to the whole frame.
        side: the frame is cut into side x side patches with one more token each.
        depth: Perceiver layers.
    """

    layers: int = 2
    latents: int = 256
    side: int = 16
    depth: int = 2


VARIANTS = {"perceiver": PerceiverConfig()}


def _feed_forward(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, 4 * width, bias=False),
        nn.GELU(),
        nn.Linear(4 * width, width, bias=False),
    )


class _CrossAttention(nn.Module):
    """Latents attend to tokens, one head; the position is added to keys and values."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_x, self.norm_latents = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(width, 2 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)

    def forward(self, latents: Tensor, x: Tensor, position: Tensor | None) -> Tensor:
        q = self.to_q(self.norm_latents(latents))
        k, v = self.to_kv(self.norm_x(x)).chunk(2, -1)
        if position is not None:
            k, v = k + position, v + position
        out: Tensor = self.to_out(_one_head(q, k, v))
        return out


class _SelfAttention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(width, 2 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)

    def forward(self, latents: Tensor) -> Tensor:
        normed = self.norm(latents)
        out: Tensor = self.to_out(_one_head(self.to_q(normed), *self.to_kv(normed).chunk(2, -1)))
        return out


def _one_head(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    # fused kernels want the axis of heads
    return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]


class _Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = _CrossAttention(width)
        self.ff = _feed_forward(width)
        self.self_attn = _SelfAttention(width)
        self.self_ff = _feed_forward(width)

    def forward(self, latents: Tensor, x: Tensor, position: Tensor | None = None) -> Tensor:
        latents = latents + self.attn(latents, x, position)
        latents = latents + self.ff(latents)
        latents = latents + self.self_attn(latents)
        out: Tensor = latents + self.self_ff(latents)
        return out


class SpatialPerceiver(nn.Module):
    """Global latents attend to all positions, patch latents to their patch; both through the same layers."""

    def __init__(self, config: PerceiverConfig, width: int) -> None:
        super().__init__()
        self.side = config.side
        self.latents = nn.Parameter(torch.randn(config.latents, width))
        self.latents_2d = nn.Parameter(torch.randn(config.side**2, width))
        self.layers = nn.ModuleList(_Layer(width) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, memory: Tensor, position: Tensor) -> Tensor:
        """(B, C, H, W) map and (1, C, H, W) position to (B, latents + side^2, C), global latents first."""
        batch = memory.shape[0]
        everywhere = self.latents.expand(batch, -1, -1)
        whole, code = memory.flatten(2).transpose(1, 2), position.flatten(2).transpose(1, 2)
        patches = rearrange(memory, "b c (r y) (k x) -> (b r k) (y x) c", r=self.side, k=self.side)
        local = self.latents_2d.expand(batch, -1, -1).reshape(-1, 1, memory.shape[1])
        for layer in self.layers:
            everywhere = layer(everywhere, whole, code)
            local = layer(local, patches)
        out: Tensor = self.norm(torch.cat([everywhere, local.view(batch, -1, memory.shape[1])], 1))
        return out


class PerceiverMemory(MemoryMethod):
    """The plain method with the tail of `encode` replaced by a Perceiver."""

    def __init__(self, config: PerceiverConfig) -> None:
        if min(config.latents, config.side, config.depth) < 1:
            raise ConfigError(f"latents, side and depth must be at least 1, not {config}")
        super().__init__(config)
        self.perceiver = SpatialPerceiver(config, config.token_width)
        self.step = 16 * config.side

    def compress(self, memory_bchw: Tensor, position: Tensor) -> MemoryTokens:
        """See `MemoryMethod.compress`; global latents have neither position nor rotary code."""
        tokens = self.perceiver(memory_bchw, position)
        grid = (self.perceiver.side, self.perceiver.side)
        places = sine_grid(grid, tokens.shape[2], tokens.device, tokens.dtype).flatten(2).transpose(1, 2)
        unrotated = tokens.shape[1] - places.shape[1]
        return MemoryTokens(tokens.to(self.token_dtype), F.pad(places, (0, 0, unrotated, 0)), unrotated, grid)


def build(config: PerceiverConfig) -> PerceiverMemory:
    """A Perceiver memory with untrained weights."""
    return PerceiverMemory(config)
