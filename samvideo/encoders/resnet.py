"""ResNet-18, the encoder of NanoSAM (NVIDIA 2023; ResNet: He et al. 2016), on timm's trunk.

Counterpart: NVIDIA-AI-IOT/nanosam: nanosam/models/timm_image_encoder.py.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samvideo.encoders.base import WIDTH, ImageEncoder
from samvideo.nn.conv import fold_norms

KIND = "encoder"
TABLE = 64
"""Side of the table of absolute positions: 1024-pixel pictures at stride 16."""


@dataclass(frozen=True)
class ResNetConfig:
    """Which of timm's ResNets.

    Attributes:
        model: timm's name, e.g. "resnet18".
    """

    model: str


VARIANTS = {"resnet-18": ResNetConfig("resnet18")}


class ResNet(ImageEncoder):
    """A convolutional trunk whose last map (stride 32) is enlarged to stride 16; no finer maps."""

    step = 32
    fine = False

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        backbone: Any = timm.create_model(config.model, pretrained=False, features_only=True, out_indices=(4,))
        self.backbone = backbone
        (channels,) = backbone.feature_info.channels()
        enlarge = nn.Sequential(
            *(part for i in range(3) for part in (_conv(WIDTH if i else channels), nn.GELU())),
            nn.ConvTranspose2d(WIDTH, WIDTH, 3, stride=2, padding=1, output_padding=1),
            nn.GELU(),
        )
        project = nn.Sequential(_conv(WIDTH), nn.GELU(), nn.Conv2d(WIDTH, WIDTH, 1))
        self.neck = nn.Sequential(OrderedDict(up_1=enlarge, proj=project))
        self.pos_embedding = nn.Parameter(torch.zeros(1, WIDTH, TABLE, TABLE))

    def forward(self, image_bchw: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `ImageEncoder.forward`; the table of positions is resized for pictures of other sizes."""
        (coarse,) = self.backbone(image_bchw)
        coarse = self.neck(coarse)
        position: Tensor = self.pos_embedding
        if coarse.shape[-2:] != position.shape[-2:]:
            position = F.interpolate(position, size=coarse.shape[-2:], mode="bicubic", align_corners=False)
        return coarse + position, ()

    def published(self, own: str) -> str:
        """See `ImageEncoder.published`."""
        return own.removeprefix("neck.")

    def fuse(self, fine: Sequence[nn.Conv2d] = ()) -> bool:
        """Fold batch norms into convolutions; the published keys are gone after this."""
        fold_norms(self.backbone)
        return False


def _conv(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, WIDTH, 3, padding=1)


def build(config: ResNetConfig) -> ResNet:
    """A ResNet with untrained weights; nothing is downloaded."""
    return ResNet(config)
