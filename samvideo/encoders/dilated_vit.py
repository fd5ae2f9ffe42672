"""The ViT of SAM-Lightening (Song et al. 2024): SAM's frame with dilated attention, as its code has it.

Counterpart: Songyanfei/SAM-LIGHTENING, DilatedSAM_vit_t.
"""

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from samvideo.encoders.sam_vit import SamVit, SamVitConfig

KIND = "encoder"
DILATION = 2
VARIANTS = {"dilated-vit-t": SamVitConfig(384, 6, 6, (2, 5), 1536)}


class DilatedAttention(nn.Module):
    """Attention of every second token of a window with its counterparts in the other windows of the picture.

    The paper describes attention of the tokens within a window; in the published code, and so in weights trained
    with it, the axes are exchanged. The tokens between get zeros. Over the whole map, a token has no
    counterparts and attends to itself alone. Half of the heads, of twice the width, keep the scale of all heads.
    The code also mixes the pictures of a batch; here, each is by itself.

    Args:
        dim: channels.
        heads: attention heads before they are halved.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads // DILATION
        self.scale = (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out_proj = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, window: int) -> Tensor:
        """(B, H, W, C) to the same; windows of zeros take part where the map is not a multiple of the window."""
        height, width = x.shape[1:3]
        y, x_ = (window, window) if window else (height, width)
        padded = F.pad(x, (0, 0, 0, -width % x_, 0, -height % y))
        tokens = rearrange(padded, "b (r y) (c x) d -> b (y x) (r c) d", y=y, x=x_)
        kept = self.proj(self.out_proj(self._mix(tokens[:, ::DILATION])))
        out = self.proj.bias.to(kept.dtype).repeat(*tokens.shape[:3], 1)
        out[:, ::DILATION] = kept
        back = rearrange(out, "b (y x) (r c) d -> b (r y) (c x) d", y=y, r=padded.shape[1] // y)
        return back[:, :height, :width]

    def _mix(self, tokens: Tensor) -> Tensor:
        """(B, places, windows, C) to the same."""
        pattern = "b n w (three heads d) -> three (b n) heads w d"
        q, k, v = rearrange(self.qkv(tokens), pattern, three=3, heads=self.heads)
        mixed = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return rearrange(mixed, "(b n) heads w d -> b n w (heads d)", b=len(tokens))


class DilatedVit(SamVit):
    """SAM's ViT with dilated attention and no relative positions."""

    def attention(self, config: SamVitConfig, window: int) -> nn.Module:
        """See `SamVit.attention`."""
        return DilatedAttention(config.dim, config.heads)

    def published(self, own: str) -> str:
        """See `ImageEncoder.published`."""
        own = own.replace(".attn.qkv.", ".attn.multihead_attn.Wqkv.")
        return super().published(own.replace(".attn.out_proj.", ".attn.multihead_attn.out_proj."))


def build(config: SamVitConfig) -> DilatedVit:
    """A ViT with dilated attention and untrained weights."""
    return DilatedVit(config)
