"""Prompt encoder (Kirillov et al. 2023, Segment Anything).

Counterpart: facebookresearch/sam2: sam2/modeling/sam/prompt_encoder.py.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samvideo.nn.norm import LayerNorm2d
from samvideo.nn.position import FourierPosition
from samvideo.tensors import Grid, PromptTensors

PADDING = -1
"""Label of a point that says nothing."""
FIRST_CORNER = 2
"""Label of a box's first corner."""
Padding = Literal["always", "without box", "never"]


class PromptEncoder(nn.Module):
    """Clicks, boxes (as two labelled corners) and mask logits to tokens and a map.

    Args:
        width: channels of tokens and map.
        padding: when a point that says nothing is added: "always" (SAM 2), "without box" (SAM), "never".
        labels: how many labels have a learned embedding.
        masks: whether masks are prompts, too.
    """

    def __init__(
        self, width: int = 256, padding: Padding = "always", *, labels: int = 4, masks: bool = True
    ) -> None:
        super().__init__()
        self.padding = padding
        self.pe_layer = FourierPosition(width)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, width) for _ in range(labels))
        self.not_a_point_embed = nn.Embedding(1, width)
        if not masks:
            return
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, 2, stride=2),
            LayerNorm2d(4),
            nn.GELU(),
            nn.Conv2d(4, 16, 2, stride=2),
            LayerNorm2d(16),
            nn.GELU(),
            nn.Conv2d(16, width, 1),
        )
        self.no_mask_embed = nn.Embedding(1, width)

    def published(self, own: str) -> str:
        """Name in the published checkpoint, without prefix, of an entry of the state dict."""
        return own

    def points(self, prompts: PromptTensors, size_wh: tuple[int, int]) -> Tensor:
        """(B, N, width) tokens of the points, in pixels of a `size_wh` frame; N + 1 where padding is added.

        Either all prompts of a batch have a box, as the first two points, or none.
        """
        xy, labels = prompts.xy + 0.5, prompts.labels
        without_box = self.padding == "without box" and labels.numel() and (labels[0] != FIRST_CORNER).all()
        if self.padding == "always" or without_box:
            xy, labels = F.pad(xy, (0, 0, 0, 1)), F.pad(labels, (0, 1), value=PADDING)
        return self.tokens(xy, labels, size_wh)

    def tokens(self, xy: Tensor, labels: Tensor, size_wh: tuple[int, int]) -> Tensor:
        """(B, N, width) tokens of just these points, (B, N, 2) from the corner of pixels, with (B, N) labels."""
        kinds = torch.cat([self.not_a_point_embed.weight, *self.point_embeddings.parameters()])
        sides = torch.cat([xy.new_full((1,), side) for side in size_wh])  # made on the device, as CUDA graphs want
        code = self.pe_layer(xy / sides).to(kinds.dtype)
        valid = (labels != PADDING)[..., None]
        tokens: Tensor = code * valid + kinds[labels + 1]
        return tokens

    def no_points(self, batch: int) -> PromptTensors:
        """Points that say nothing, for masks alone and for tracking: one of SAM 2's padding, or none at all."""
        count, device = int(self.padding == "always"), self.not_a_point_embed.weight.device
        labels = torch.full((batch, count), PADDING, device=device)
        return PromptTensors(torch.zeros(batch, count, 2, device=device), labels)

    def grid_code(self, grid: Grid) -> Tensor:
        """(1, width, H, W) position code of the decoder's image tokens, in the manner of the points."""
        return self.pe_layer.of_grid(grid).to(self.not_a_point_embed.weight.dtype)

    def dense(self, mask_logits: Tensor | None, grid: Grid) -> Tensor:
        """Map for (B, 1, 4 H, 4 W) mask logits on an H x W grid; without a mask the learned (1, width, H, W)."""
        if mask_logits is None:
            return self.no_mask_embed.weight[..., None, None].expand(-1, -1, *grid)
        out: Tensor = self.mask_downscaling(mask_logits.to(self.no_mask_embed.weight.dtype))
        return out
