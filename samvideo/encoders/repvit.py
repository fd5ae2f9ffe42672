"""RepViT, the encoder of EdgeTAM (Wang et al. 2024; Zhou et al. 2025), on timm's trunk."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import timm
from torch import Tensor, nn

from samvideo.encoders.base import ImageEncoder
from samvideo.encoders.neck import PyramidNeck

KIND = "encoder"


@dataclass(frozen=True)
class RepVitConfig:
    """Which of timm's RepViT models.

    Attributes:
        model: timm's name, e.g. "repvit_m1".
    """

    model: str


VARIANTS = {
    "repvit-m1": RepVitConfig("repvit_m1"),
    "repvit-m2": RepVitConfig("repvit_m2"),
    "repvit-m3": RepVitConfig("repvit_m3"),
}


class _Trunk(nn.Module):
    """Named as the checkpoints have it: trunk.body."""

    def __init__(self, model: str) -> None:
        super().__init__()
        body: Any = timm.create_model(model, pretrained=False, features_only=True, out_indices=(0, 1, 2, 3))
        self.channels: list[int] = body.feature_info.channels()
        self.body = body

    def forward(self, image_bchw: Tensor) -> list[Tensor]:
        out: list[Tensor] = self.body(image_bchw)
        return out


class RepVit(ImageEncoder):
    """A mobile convolutional trunk whose branches fold into single convolutions for inference."""

    step = 32
    fine = True

    def __init__(self, config: RepVitConfig) -> None:
        super().__init__()
        self.trunk = _Trunk(config.model)
        self.neck = PyramidNeck(self.trunk.channels)
        self.fused = False

    def forward(self, image_bchw: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `ImageEncoder.forward`."""
        coarse, fine = self.neck(self.trunk(image_bchw))
        return coarse, fine

    def fuse(self, fine: Sequence[nn.Conv2d] = ()) -> bool:
        """Fold batch norms and branches into convolutions, too; the published keys are gone after this."""
        if not self.fused:
            _fuse_children(self.trunk.body)
            self.fused = True
        return self.neck.fold(fine)


def _fuse_children(module: nn.Module) -> None:
    for name, child in module.named_children():
        fuse: Any = getattr(child, "fuse", None)
        if fuse is not None:
            child = fuse()
            setattr(module, name, child)
        _fuse_children(child)


def build(config: RepVitConfig) -> RepVit:
    """A RepViT with untrained weights; nothing is downloaded."""
    return RepVit(config)
