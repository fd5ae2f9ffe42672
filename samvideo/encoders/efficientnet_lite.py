"""EfficientNet-Lite0 up to stride 16, the encoder of the bundled model, on timm's trunk (Tan, Le 2019; Lite: 2020).

Counterpart: timm's tf_efficientnet_lite0, whose weights are those of tensorflow/tpu's efficientnet-lite.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import timm
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from samvideo.encoders.base import WIDTH, ImageEncoder

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
    """

    model: str
    widths: tuple[int, int, int]


VARIANTS = {"efficientnet-lite0": EfficientNetConfig("tf_efficientnet_lite0", (24, 40, 112))}


class EfficientNetLite(ImageEncoder):
    """Stem and five stages; the map of stride 16 is projected to 256 channels, the finer ones stay as they are."""

    step = 16
    fine = True

    def __init__(self, config: EfficientNetConfig) -> None:
        super().__init__()
        net: Any = timm.create_model(config.model, pretrained=False)
        self.stem = nn.Sequential(net.conv_stem, net.bn1)
        self.stages = nn.Sequential(*list(net.blocks)[:STAGES])
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
        """Fold batch norms into the convolutions before them."""
        _fold_norms(self)
        return False


def _fold_norms(module: nn.Module) -> None:
    """Fold each batch norm into the convolution before it; timm registers in the order of use. Activations stay."""
    conv: tuple[str, nn.Conv2d] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv2d):
            conv = name, child
        elif isinstance(child, nn.BatchNorm2d) and conv is not None:
            setattr(module, conv[0], fuse_conv_bn_eval(conv[1], child))
            setattr(module, name, getattr(child, "act", nn.Identity()))
        else:
            _fold_norms(child)


def build(config: EfficientNetConfig) -> EfficientNetLite:
    """An EfficientNet-Lite with untrained weights; nothing is downloaded."""
    return EfficientNetLite(config)
