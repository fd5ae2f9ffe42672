"""EfficientNet-Lite0 up to stride 16, the encoder of the bundled model, on timm's trunk (Tan, Le 2019; Lite: 2020).

Counterpart: timm's tf_efficientnet_lite0, whose weights are those of tensorflow/tpu's efficientnet-lite.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch.nn.functional as F
from torch import Tensor, nn

from samvideo.encoders.base import WIDTH, ImageEncoder
from samvideo.nn.conv import fold_norms

KIND = "encoder"
STAGES = 5
"""Stages of the trunk up to stride 16; the others are not built."""
QUARTER, EIGHTH = 1, 2
"""Stages whose outputs are the fine maps."""


@dataclass(frozen=True)
class EfficientNetConfig:
    """Which of timm's EfficientNets.

    Attributes:
        model: timm's name.
        widths: channels of its maps at strides 4, 8 and 16.
        blocks: of each stage, at most; None: all.
    """

    model: str
    widths: tuple[int, int, int]
    blocks: int | None = None


VARIANTS = {"efficientnet-lite0": EfficientNetConfig("tf_efficientnet_lite0", (24, 40, 112))}


class EfficientNetLite(ImageEncoder):
    """Stem and five stages; the map of stride 16 is projected to 256 channels, the finer ones stay as they are."""

    step = 16
    fine = True

    def __init__(self, config: EfficientNetConfig) -> None:
        super().__init__()
        net: Any = timm.create_model(config.model, pretrained=False)
        self.stem = nn.Sequential(net.conv_stem, net.bn1)
        self.stages = nn.Sequential(*(stage[: config.blocks] for stage in net.blocks[:STAGES]))
        self.fine_widths = config.widths[:2]
        self.neck = nn.Conv2d(config.widths[2], WIDTH, 1)

    def forward(self, image_bchw: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `ImageEncoder.forward`."""
        maps = []
        x = self.stem(image_bchw)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return self.neck(x), (maps[QUARTER], maps[EIGHTH])

    def load_trunk(self, weights: Mapping[str, Tensor]) -> None:
        """Load a published classifier's weights, which come in the order of timm's entries, without the neck."""
        own = {**self.stem.state_dict(prefix="stem."), **self.stages.state_dict(prefix="stages.")}
        values = [value for key, value in weights.items() if not key.endswith("num_batches_tracked")]
        names = [key for key in own if not key.endswith("num_batches_tracked")]
        self.load_state_dict(dict(zip(names, values, strict=False)), strict=False)

    def fuse(self, fine: Sequence[nn.Conv2d] = ()) -> bool:
        """Fold batch norms into convolutions, and TensorFlow's padding into their kernels."""
        fold_norms(self, _even)
        return False


def _even(conv: nn.Conv2d) -> nn.Conv2d:
    """A convolution of stride 2 that pads like TensorFlow, one more at the right and the bottom, as a plain one.

    Its kernel gets a row and a column of zeros in front, so that padding is the same on all sides: on inputs with
    even sides the result is the same, and no padded copy of the map is made.
    """
    if conv.stride != (2, 2):
        return conv
    kernel = conv.kernel_size[0] + 1
    padding = kernel // 2 - 1
    plain = nn.Conv2d(
        conv.in_channels, conv.out_channels, kernel, 2, padding, groups=conv.groups, device=conv.weight.device
    )
    plain.weight = nn.Parameter(F.pad(conv.weight, (1, 0, 1, 0)))
    plain.bias = conv.bias
    return plain


def build(config: EfficientNetConfig) -> EfficientNetLite:
    """An EfficientNet-Lite with untrained weights; nothing is downloaded."""
    return EfficientNetLite(config)
