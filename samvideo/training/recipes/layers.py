"""Layer by layer: blocks learn the outputs of the teacher's blocks at the same depth, the first ones first.

Sources: Shen et al. 2024, FastSAM3D (layer-wise progressive distillation); Song et al. 2024,
SAM-Lightening (dynamic weights that move from shallow layers to deep ones). The formula of the weights
is ours: neither paper's could be established.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from samvideo.encoders.base import ImageEncoder
from samvideo.errors import ConfigError
from samvideo.image_model import ImageModel
from samvideo.tensors import Features
from samvideo.training.distil_recipe import (
    Lesson,
    Recipe,
    RecipeConfig,
    check_range,
    encoded,
    feature_loss,
    features_loss,
    train_only,
)

NAMES = ("blocks", "layers", "stages")
"""Of the lists of blocks in encoders."""
LAST = 0.99
"""Largest share of the steps for the final features alone; recipe `features` has nothing else."""


@dataclass(frozen=True)
class LayersConfig(RecipeConfig):
    """When which layers learn.

    Attributes:
        last: share of the steps at the end that are for the final features alone.
    """

    last: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, ("last",), 0, LAST)

    def build(self, student: ImageModel, teacher: ImageModel) -> "LayersRecipe":
        """See `RecipeConfig.build`."""
        return LayersRecipe(student, teacher, self)


def blocks_of(encoder: ImageEncoder) -> Sequence[nn.Module]:
    """The blocks of an encoder, or its stages, in their order; ConfigError if it has no list of them."""
    for place in (encoder, *encoder.children()):
        for name in NAMES:
            if isinstance(blocks := getattr(place, name, None), nn.ModuleList | nn.Sequential):
                return list(blocks)
    raise ConfigError(
        f"{type(encoder).__name__} is not a list of blocks or stages: take another recipe, such as features"
    )


def pairs(own: int, theirs: int) -> list[tuple[int, int]]:
    """Indices of blocks at the same depth, of encoders with so many blocks each: as many as the shorter one has."""
    count = min(own, theirs)
    return [((k + 1) * own // count - 1, (k + 1) * theirs // count - 1) for k in range(count)]


def layer_weights(progress: float, count: int) -> list[float]:
    """Weights of `count` layers and of the final features; their sum is 1, their mean moves from first to last.

    Args:
        progress: 0 for the first layer alone, 1 for the final features alone.
        count: number of layers.
    """
    place = progress * count
    return [max(0.0, 1 - abs(k - place)) for k in range(count + 1)]


class LayersRecipe(Recipe):
    """The encoder learns, and projections to the teacher's widths beside it."""

    def __init__(self, student: ImageModel, teacher: ImageModel, config: LayersConfig) -> None:
        super().__init__(student, teacher)
        self.config = config
        train_only(student, "encoder")
        own, theirs = blocks_of(student.encoder), blocks_of(teacher.encoder)
        chosen = pairs(len(own), len(theirs))
        self.own, self.theirs = [own[k] for k, _ in chosen], [theirs[k] for _, k in chosen]
        self.taught_key = f"blocks {[k for _, k in chosen]}"
        with torch.no_grad():
            mine, other = (
                self._widths(model, blocks) for model, blocks in ((student, self.own), (teacher, self.theirs))
            )
        self.aids["project"] = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(mine, other, strict=True))

    def taught(self, pictures: Tensor) -> tuple[Features, Sequence[Tensor]]:
        """See `Recipe.taught`."""
        with _outputs(self.theirs) as found:
            features = encoded(self.teacher, pictures)
        return features, found

    def losses(self, lesson: Lesson) -> dict[str, Tensor]:
        """See `Recipe.losses`."""
        with _outputs(self.own) as found:
            features = encoded(self.student, lesson.pictures)
        weights = layer_weights(min(1.0, lesson.progress / (1 - self.config.last)), len(found))
        project = self.aids["project"]
        assert isinstance(project, nn.ModuleList)
        errors = [
            feature_loss(layer(own), target)
            for layer, own, target in zip(project, found, lesson.further, strict=True)
        ]
        total = sum(weight * error for weight, error in zip(weights, errors, strict=False))
        features_error = features_loss(features, lesson.features)
        return {"layers": total + weights[-1] * features_error, "features": features_error.detach()}

    @staticmethod
    def _widths(model: ImageModel, blocks: Sequence[nn.Module]) -> list[int]:
        """Channels of the outputs of blocks."""
        with _outputs(blocks) as found:
            model.encoder(torch.zeros(1, 3, *model.spec.input_wh[::-1], device=model.device))
        return [x.shape[1] for x in found]


@contextmanager
def _outputs(blocks: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """A list that gets the outputs of blocks, as maps (B, C, h, w), when the network runs in the block."""
    found: list[Tensor] = []

    def keep(module: nn.Module, given: object, output: Tensor) -> None:
        found.append(_as_map(output))

    hooks = [block.register_forward_hook(keep) for block in blocks]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _as_map(x: Tensor) -> Tensor:
    """Square maps (B, h, w, C), as ViTs have them, or tokens (B, h w, C), as (B, C, h, w), as CNNs have them."""
    if x.ndim == 3:
        side = round(x.shape[1] ** 0.5)
        x = x.view(len(x), side, side, -1)
    return x if x.shape[2] == x.shape[3] else x.permute(0, 3, 1, 2)


VARIANTS = {"layers": LayersConfig()}
