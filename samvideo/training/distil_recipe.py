"""What a recipe of distillation is: the losses of a student beside its teacher. Recipes are in `recipes`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samvideo.errors import ConfigError
from samvideo.image_model import ImageModel
from samvideo.option_text import split_options, with_options
from samvideo.pictures import normalised
from samvideo.registry import Registry
from samvideo.tensors import Features
from samvideo.training.engine import Stage

EPSILON = 1e-6
"""Added to variances."""
LEAST_RATE = 1e-9
"""Learning rates and norms of gradients below it are taken for mistakes: nothing would be learned."""
ELSEWHERE = ("steps", "seed")
"""What a recipe has, but is given beside it."""


class Lesson(NamedTuple):
    """A batch of a step.

    Attributes:
        pictures: (B, 3, S, S) in 0..1, as the student sees them.
        features: of the teacher, of the same pictures before they were changed; B rows.
        further: what else the teacher gave, see `Recipe.taught`.
        progress: share of the steps that are done, in [0, 1).
        covered: (B, 2) share of the square's width and height that a picture takes; None for all of it.
    """

    pictures: Tensor
    features: Features
    further: tuple[Tensor, ...]
    progress: float
    covered: Tensor | None = None


@dataclass(frozen=True)
class RecipeConfig:
    """What every recipe has; ConfigError for values that no training can have.

    Attributes:
        fit: steps and rates; `trunk_rate` is the factor for heads.
        batch: pictures, or clips, of a step, unless others are wanted; no option.
    """

    batch: ClassVar[int] = 8
    fit: Stage = field(default_factory=lambda: Stage(2000, rate=1e-3, warmup=0.05, decay=0.05))

    def __post_init__(self) -> None:
        check_range(self.fit, ("rate", "clip"), LEAST_RATE)
        check_range(self.fit, ("trunk_rate", "decay"), 0)
        check_range(self.fit, ("warmup", "average"), 0, 1)

    def build(self, student: ImageModel, teacher: ImageModel) -> "Recipe":
        """The recipe for two models; ConfigError if it is not for them."""
        raise NotImplementedError


class Recipe:
    """Computes losses of a student beside its teacher.

    Args:
        student: learns; gradients are wanted for what the recipe trains, see `train_only`.
        teacher: in evaluation mode, frozen.

    Attributes:
        learner: the student and, in `aids`, what is of no use later; all that is trained.
        taught_key: what tells the maps of `taught` from those of other recipes, in names of cached ones.
        clip: frames of a clip and their distance; pictures of a video are clips of one frame.
    """

    taught_key = ""
    clip = (1, 8)

    def __init__(self, student: ImageModel, teacher: ImageModel) -> None:
        self.student, self.teacher = student, teacher
        self.aids = nn.ModuleDict()
        self.learner = nn.ModuleDict({"student": student, "aids": self.aids})

    def taught(self, pictures: Tensor) -> tuple[Features, Sequence[Tensor]]:
        """What the teacher makes of pictures, uint8 (B, 3, S, S): features, and further maps (B, C, h, w)."""
        return encoded(self.teacher, pictures), ()

    def losses(self, lesson: Lesson) -> dict[str, Tensor]:
        """Losses and, without gradients, measurements by name."""
        raise NotImplementedError

    def tracked(self, pictures: Tensor, covered: Tensor) -> Tensor:
        """(N,) IoU of both models' masks of objects that they follow; only recipes of clips have it.

        Args:
            pictures: frames of a clip, uint8 (T, 3, S, S).
            covered: (2,) see `Lesson`.
        """
        raise NotImplementedError


RECIPES: Registry[RecipeConfig] = Registry("recipe", "samvideo.training.recipes", spec=RecipeConfig)


def check_range(config: object, names: Sequence[str], least: float, most: float = math.inf) -> None:
    """Raise ConfigError unless the fields of these names are numbers in a range, both ends of it included."""
    for name in names:
        value = getattr(config, name)
        if not least <= value <= most:
            wanted = f"at least {least}" if most == math.inf else f"a number from {least} to {most}"
            raise ConfigError(f"option {name!r} of a recipe is {value}: {wanted} expected, or leave it out")


def parse_recipe(text: str) -> tuple[str, RecipeConfig]:
    """Name and config of `NAME` or `NAME:OPTION=VALUE,...`; ConfigError if there is no such recipe or option."""
    name, options = split_options(text)
    config: Any = RECIPES.find(name)
    return name, with_options(config, options, f"recipe {name!r}", fixed=ELSEWHERE)


def encoded(model: ImageModel, pictures: Tensor) -> Features:
    """Features of pictures (B, 3, S, S), bytes or in 0..1, at the model's own input size."""
    pictures = shrunk(pictures.to(model.device), model)
    with torch.autocast(pictures.device.type, torch.bfloat16, enabled=pictures.device.type == "cuda"):
        return model.encode(normalised(pictures, model.spec))


def shrunk(pictures: Tensor, model: ImageModel) -> Tensor:
    """Pictures (B, 3, S, S), bytes or in 0..1, at the model's input size, in 0..1."""
    pictures = pictures.float() / 255 if pictures.dtype == torch.uint8 else pictures
    size = model.spec.input_wh[::-1]
    if pictures.shape[-2:] == size:
        return pictures
    return F.interpolate(pictures, size=size, mode="bilinear", antialias=True)


def train_only(model: ImageModel, *parts: str) -> None:
    """Let only some parts of a model learn: `encoder`, `prompts`, `decoder`, `memory`, `pointers`."""
    model.requires_grad_(False)
    for part in parts:
        module = getattr(model, part, None)
        if module is not None:
            module.requires_grad_(True)


def resized(target: Tensor, like: Tensor) -> Tensor:
    """A map (B, C, h, w) at the height and width of another."""
    if target.shape[-2:] == like.shape[-2:]:
        return target
    return F.interpolate(target, size=like.shape[-2:], mode="bilinear", antialias=True)


def feature_errors(own: Tensor, target: Tensor) -> Tensor:
    """(B,) mean squared errors of maps (B, C, h, w) against a teacher's, which are resized, over their variance.

    Divided so, they have the same weight beside other losses for every teacher and every map of it.
    """
    target = resized(target.float(), own)
    return (own.float() - target).square().mean((1, 2, 3)) / (target.var(correction=0) + EPSILON)


def feature_loss(own: Tensor, target: Tensor) -> Tensor:
    """The mean of `feature_errors`."""
    return feature_errors(own, target).mean()


def features_loss(own: Features, target: Features) -> Tensor:
    """`feature_loss` of the coarse maps plus that of each fine one, where both models have such a map."""
    total = feature_loss(own.coarse, target.coarse)
    for mine, other in zip(own.fine, target.fine, strict=False):
        if mine.shape[1] == other.shape[1]:
            total = total + feature_loss(mine, other)
    return total
