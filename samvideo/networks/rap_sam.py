"""RAP-SAM (Xu et al. 2025): one network for prompted and panoptic segmentation.

Counterpart: xushilin1/RAP-SAM: seg/models/detectors/rapsam.py.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from samvideo.errors import WeightsError
from samvideo.networks.base import Network
from samvideo.networks.rap_sam_decoder import RapSamDecoder
from samvideo.networks.rap_sam_neck import RapSamNeck
from samvideo.weights.keys import renamed
from samvideo.weights.read import read_tensor

KIND = "network"
UNIT_TOLERANCE = 1e-2
"""Of the length of class embeddings, which may be stored in half precision."""
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
    """Backbone and sizes.

    Attributes:
        backbone: timm's name of a network with maps of strides 4, 8, 16 and 32.
        queries: learned ones, which find objects without prompts.
        stages: of the decoder that all tasks share.
        width: channels of features and queries.
        class_width: of class embeddings.
        log_scale: logarithm of the factor on the cosines of queries and class embeddings.
        temperature: what these are divided by in the shared stages, besides.
    """

    backbone: str
    queries: int = 100
    stages: int = 3
    width: int = 256
    class_width: int = 768
    log_scale: float = 4.6052
    temperature: float = 0.1


VARIANTS = {"rap-sam": RapSamConfig("resnet50")}


class RapSam(Network):
    """Features of an image, for which `decoder` answers prompts or finds objects of known classes.

    Attributes:
        step: input height and width must be multiples of this.
    """

    step = 32

    def __init__(self, config: RapSamConfig) -> None:
        super().__init__()
        backbone: Any = timm.create_model(
            config.backbone, pretrained=False, features_only=True, out_indices=(1, 2, 3, 4)
        )
        self.backbone = backbone
        self.neck = RapSamNeck(backbone.feature_info.channels()[::-1], width=config.width)
        self.decoder = RapSamDecoder(
            config.queries,
            config.stages,
            config.width,
            config.class_width,
            log_scale=config.log_scale,
            temperature=config.temperature,
        )

    def forward(self, image_bchw: Tensor) -> Tensor:
        """(B, 3, H, W) normalised image, with zeros at the right and the bottom, to (B, 256, H / 4, W / 4)."""
        with self.autocast():
            features: Tensor = self.neck(self.backbone(image_bchw)[::-1])
        return features

    def published(self, own: str) -> str:
        """See `Network.published`."""
        return renamed(own, PUBLISHED_NAMES)


def read_classes(path: Path, width: int = RapSamConfig.class_width) -> Tensor:
    """Class embeddings from a file, with the background as the last class, as `RapSamDecoder.panoptic` takes them.

    Args:
        path: a file of one tensor (classes, names, width): unit vectors of the names of each class, as published
            beside the checkpoint for each set of classes.
        width: of the network.

    Returns:
        float32 (width, classes + 1, names).

    Raises:
        WeightsError: the file cannot be read or holds something else.
    """
    classes = read_tensor(path).float()
    if classes.dim() != 3 or classes.shape[2] != width or not classes.numel():
        raise WeightsError(
            f"{path} holds {tuple(classes.shape)} numbers: class embeddings (classes, names, {width}) expected"
        )
    if ((classes.norm(dim=-1) - 1).abs() > UNIT_TOLERANCE).any():
        raise WeightsError(f"{path} holds no class embeddings: vectors of length 1 expected; normalise them")
    return torch.cat([classes, torch.zeros_like(classes[:1])]).permute(2, 0, 1).contiguous()


def build(config: RapSamConfig) -> RapSam:
    """A RAP-SAM with untrained weights; nothing is downloaded."""
    return RapSam(config)
