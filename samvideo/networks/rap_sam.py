"""RAP-SAM (Xu et al. 2025): one network for prompted and panoptic segmentation.

Counterpart: xushilin1/RAP-SAM: seg/models/detectors/rapsam.py.
"""

import re
from dataclasses import dataclass
from typing import Any

import timm
from torch import Tensor, nn

from samvideo.networks.rap_sam_decoder import RapSamDecoder
from samvideo.networks.rap_sam_neck import RapSamNeck

KIND = "network"
PUBLISHED_NAMES = (
    (r"^neck\.(bias|output_conv)", r"neck.deconv.\1"),
    (r"^neck\.lateral\.", "neck.deconv.lateral_conv"),
    *((rf"^neck\.grow\.{i}\.", f"neck.deconv.deform_conv{i + 1}.") for i in range(3)),
    *((rf"^neck\.join\.{i}\.", f"neck.deconv.conv_a{5 - i}.") for i in range(4)),
    (r"^decoder\.", "panoptic_head."),
    (r"\.ffn\.layers\.0\.", ".ffn.layers.0.0."),
    *((rf"\.(cls_proj|iou_embed)\.layers\.{i}\.", rf".\1.{2 * i}.") for i in range(3)),
    (r"\.panoptic_cls\.", ".panoptic_cls.0."),
    (r"\.prompt_attn\.", ".prompt_attn.attn."),
)


@dataclass(frozen=True)
class RapSamConfig:
    """Which backbone.

    Attributes:
        backbone: timm's name of a network with maps of strides 4, 8, 16 and 32.
    """

    backbone: str


VARIANTS = {"rap-sam": RapSamConfig("resnet50")}


class RapSam(nn.Module):
    """Features of an image, for which `decoder` answers prompts or finds objects of known classes.

    Attributes:
        step: input height and width must be multiples of this.
    """

    step = 32

    def __init__(self, config: RapSamConfig) -> None:
        super().__init__()
        self.backbone: Any = timm.create_model(
            config.backbone, pretrained=False, features_only=True, out_indices=(1, 2, 3, 4)
        )
        self.neck = RapSamNeck(self.backbone.feature_info.channels()[::-1])
        self.decoder = RapSamDecoder()

    def forward(self, image_bchw: Tensor) -> Tensor:
        """(B, 3, H, W) normalised image, with zeros at the right and the bottom, to (B, 256, H / 4, W / 4)."""
        out: Tensor = self.neck(self.backbone(image_bchw)[::-1])
        return out

    def published(self, own: str) -> str:
        """Name in the published checkpoint of an entry of the state dict."""
        for pattern, replacement in PUBLISHED_NAMES:
            own = re.sub(pattern, replacement, own)
        return own


def build(config: RapSamConfig) -> RapSam:
    """A RAP-SAM with untrained weights; nothing is downloaded."""
    return RapSam(config)
