"""The heads of EfficientSAM (Xiong et al. 2023): SAM's, with other rules.

Counterpart: yformer/EfficientSAM: efficient_sam/efficient_sam_decoder.py and two_way_transformer.py.
"""

import logging
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samvideo.heads.masks import MaskDecoder
from samvideo.heads.prompt_encoder import PADDING, PromptEncoder
from samvideo.nn.mlp import Mlp
from samvideo.tensors import Grid, PromptTensors
from samvideo.weights.keys import renamed

log = logging.getLogger(__name__)
KIND = "heads"
PROMPT_NAMES = {
    "not_a_point_embed": "invalid_points",
    "point_embeddings.0": "point_embeddings",
    "point_embeddings.1": "bbox_top_left_embeddings",
    "point_embeddings.2": "bbox_bottom_right_embeddings",
}
DECODER_NAMES = (
    (r"\.mlp\.layers\.0\.", ".mlp.layers.0.0."),
    (r"\.mlp\.layers\.1\.", ".mlp.fc."),
    (r"^(output_hyper\w+\.\d|iou_prediction_head)\.layers\.([01])\.", r"\1.layers.\2.0."),
    (r"^(output_hyper\w+\.\d|iou_prediction_head)\.layers\.2\.", r"\1.fc."),
    (r"^output_upscaling\.([01])\.", r"final_output_upscaling_layers.0.\1."),
    (r"^output_upscaling\.3\.", "final_output_upscaling_layers.1.0."),
)
"""Patterns of own names and what the checkpoint has in their place."""


@dataclass(frozen=True)
class EfficientSamHeadsConfig:
    """Options of the heads.

    Attributes:
        points: exactly so many enter the decoder.
        fine_widths: channels of the encoder's fine maps; None without.
    """

    points: int = 6
    fine_widths: tuple[int, int] | None = None


VARIANTS = {"efficientsam": EfficientSamHeadsConfig()}


class EfficientSamPrompts(PromptEncoder):
    """Clicks and boxes to a fixed number of tokens.

    A negative click has the code of its place only, and was never trained. There are no mask prompts: where clicks
    correct an earlier mask, that is not read.

    Args:
        count: points beyond it are left out, with a warning; missing ones say nothing.
        width: channels of tokens and map.
    """

    def __init__(self, count: int, width: int = 256) -> None:
        super().__init__(width, "never", labels=3, masks=False)
        self.count = count

    def published(self, own: str) -> str:
        """See `PromptEncoder.published`."""
        module, entry = own.rsplit(".", 1)
        return f"{PROMPT_NAMES.get(module, module)}.{entry}"

    def points(self, prompts: PromptTensors, size_wh: tuple[int, int]) -> Tensor:
        """(B, count, width) tokens of the points, in pixels of a `size_wh` frame."""
        missing = self.count - prompts.labels.shape[1]
        if missing < 0:
            log.warning(
                "EfficientSAM reads %d points (a box is two): the last %d are left out", self.count, -missing
            )
        labels = F.pad(prompts.labels, (0, missing), value=PADDING)
        xy = F.pad(prompts.xy, (0, 0, 0, missing))
        xy = xy.masked_fill((xy < 0) | (labels == PADDING)[..., None], -1)
        invalid, positive, *corners = [self.not_a_point_embed.weight, *self.point_embeddings.parameters()]
        kinds = torch.cat([invalid, torch.zeros_like(positive), positive, *corners])
        code = self.pe_layer((xy + 0.5) / torch.tensor(size_wh, device=xy.device)).to(kinds.dtype)
        return code + kinds[labels + 1]

    def dense(self, mask_logits: Tensor | None, grid: Grid) -> Tensor:
        """Zeros: (1, width, H, W)."""
        embedding = self.not_a_point_embed.weight
        return embedding.new_zeros(1, embedding.shape[1], *grid)


class EfficientSamDecoder(MaskDecoder):
    """SAM's decoder with residuals throughout, GELU in all MLPs, and a norm over whole maps in the upscaling."""

    def __init__(self, fine_widths: tuple[int, int] | None = None, width: int = 256) -> None:
        super().__init__(fine_widths, width, object_score=False, residual=True)
        self.output_upscaling[1] = nn.GroupNorm(1, width // 4)
        for layer in self.modules():
            if isinstance(layer, Mlp):
                layer.activation = F.gelu

    def published(self, own: str) -> str:
        """See `MaskDecoder.published`."""
        return renamed(own, DECODER_NAMES)


def build(config: EfficientSamHeadsConfig) -> tuple[PromptEncoder, MaskDecoder]:
    """Prompt encoder and mask decoder with untrained weights."""
    return EfficientSamPrompts(config.points), EfficientSamDecoder(config.fine_widths)
