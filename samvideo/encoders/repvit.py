"""RepViT (Wang et al. 2024) on timm's blocks, the encoder of EdgeTAM, EdgeSAM and RepViT-SAM."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import timm
from torch import Tensor, nn

from samvideo.encoders.base import ImageEncoder
from samvideo.encoders.neck import PyramidNeck, SamNeck, SumNeck
from samvideo.nn.conv import fuse_children

KIND = "encoder"


@dataclass(frozen=True)
class RepVitConfig:
    """Which of timm's RepViT models, and what follows it.

    Attributes:
        model: timm's name, e.g. "repvit_m1".
        neck: "pyramid": a feature pyramid over four levels; "fused": the two coarsest are added before SAM's neck;
            "dense": SAM's neck on the last stage, which then has stride 16, too.
    """

    model: str
    neck: Literal["pyramid", "fused", "dense"] = "pyramid"


VARIANTS = {
    "repvit-m1": RepVitConfig("repvit_m1"),
    "repvit-m2": RepVitConfig("repvit_m2"),
    "repvit-m3": RepVitConfig("repvit_m3"),
    "repvit-m1-fused": RepVitConfig("repvit_m1", "fused"),
    "repvit-m2.3": RepVitConfig("repvit_m2_3", "dense"),
}
PUBLISHED = {
    "features.0.conv1.": "features.0.0.",
    "features.0.conv2.": "features.0.2.",
    ".token_mixer.": ".token_mixer.0.",
    ".se.": ".token_mixer.1.",
    ".spatial_downsample.": ".token_mixer.0.",
    ".channel_downsample.": ".token_mixer.2.",
    ".ffn.": ".channel_mixer.",
    ".channel_mixer.conv1.": ".channel_mixer.m.0.",
    ".channel_mixer.conv2.": ".channel_mixer.m.2.",
    "neck.near.": "fuse_stage2.",
    "neck.far.": "fuse_stage3.op_list.0.",
    "neck.after.": "neck.",
}
"""Parts of timm's names and what EdgeSAM and RepViT-SAM call them, replaced in this order."""


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
    """A mobile convolutional trunk whose branches fold into single convolutions for inference.

    With a feature pyramid, as in EdgeTAM.
    """

    step = 32
    fine = True

    def __init__(self, config: RepVitConfig) -> None:
        super().__init__()
        self.trunk = _Trunk(config.model)
        self.neck = PyramidNeck(self.trunk.channels)

    def forward(self, image_bchw: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `ImageEncoder.forward`."""
        coarse, fine = self.neck(self.trunk(image_bchw))
        return coarse, fine

    def fuse(self, fine: Sequence[nn.Conv2d] = ()) -> bool:
        """Fold batch norms and branches into convolutions, too; the published keys are gone after this."""
        fuse_children(self.trunk)
        return self.neck.fold(fine)


class _SamRepVit(ImageEncoder):
    """Blocks in one list, as published: each stage but the first begins with the block that downsamples.

    timm counts the last block before it (`pre_block`) to the next stage.
    """

    fine = False

    def __init__(self, config: RepVitConfig) -> None:
        super().__init__()
        body: Any = timm.create_model(config.model, pretrained=False, num_classes=0)
        self.widths: list[int] = [info["num_chs"] for info in body.feature_info]
        self.features = nn.ModuleList([body.stem])
        self.last = 0  # index of the block with which the last stage begins
        for stage in body.stages:
            down = stage.downsample
            if not isinstance(down, nn.Identity):
                self.features.append(down.pre_block)
                down.pre_block = nn.Identity()
                self.last = len(self.features)
                self.features.append(down)
            self.features.extend(stage.blocks)

    def levels(self, image_bchw: Tensor) -> tuple[Tensor, Tensor]:
        """The last map before the last stage, and that of the last stage."""
        x = image_bchw
        for block in self.features[: self.last]:
            x = block(x)
        before = x
        for block in self.features[self.last :]:
            x = block(x)
        return before, x

    def published(self, own: str) -> str:
        """See `ImageEncoder.published`."""
        for ours, theirs in PUBLISHED.items():
            own = own.replace(ours, theirs)
        return own

    def fuse(self, fine: Sequence[nn.Conv2d] = ()) -> bool:
        """Fold batch norms, branches and what the neck can; the published keys are gone after this."""
        fuse_children(self)
        return False


class DenseRepVit(_SamRepVit):
    """With stride 16 in the last stage and SAM's neck, as in RepViT-SAM.

    Counterpart: THU-MIG/RepViT: sam/repvit_sam/modeling/repvit.py.
    """

    step = 16

    def __init__(self, config: RepVitConfig) -> None:
        super().__init__(config)
        down: Any = self.features[self.last]
        down.spatial_downsample.c.stride = (1, 1)
        self.neck = SamNeck(self.widths[-1])

    def forward(self, image_bchw: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `ImageEncoder.forward`."""
        return self.neck(self.levels(image_bchw)[1]), ()


class FusedRepVit(_SamRepVit):
    """The stride-32 map is enlarged and added to the stride-16 one, then SAM's neck, as in EdgeSAM.

    Counterpart: chongzhou96/EdgeSAM: edge_sam/modeling/rep_vit.py.
    """

    step = 32

    def __init__(self, config: RepVitConfig) -> None:
        super().__init__(config)
        self.neck = SumNeck(*self.widths[-2:])

    def forward(self, image_bchw: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `ImageEncoder.forward`."""
        return self.neck(*self.levels(image_bchw)), ()


def build(config: RepVitConfig) -> ImageEncoder:
    """A RepViT with untrained weights; nothing is downloaded."""
    kinds = {"pyramid": RepVit, "fused": FusedRepVit, "dense": DenseRepVit}
    return kinds[config.neck](config)
