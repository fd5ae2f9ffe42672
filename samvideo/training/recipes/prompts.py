"""Prompts in the loop of distillation: clicks where the masks of student and teacher disagree.

Source: Zhou et al. 2023, EdgeSAM (stage 1: the encoder; stage 2: prompts in the loop). Differences: objects are
what the teacher finds at random places, instead of labels; weights are chosen here.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from samvideo.image_model import ImageModel
from samvideo.training.distil_prompts import answers, find_objects, mask_distance, quality_error, repeated
from samvideo.training.distil_recipe import (
    Lesson,
    Recipe,
    RecipeConfig,
    check_range,
    encoded,
    features_loss,
    train_only,
)
from samvideo.training.losses import soft_iou


@dataclass(frozen=True)
class PromptsConfig(RecipeConfig):
    """Two stages.

    Attributes:
        encoder: share of the steps of stage 1, in which the encoder alone learns, from features.
        features: weight of the loss of features in stage 2.
        objects: of a picture.
        rounds: answers to each prompt; all but the first have one more click.
        entropy, dice: weights of the losses of masks.
        quality: weight of the error of the predicted IoU.
        heads: whether mask decoder and prompt encoder learn in stage 2, too.
    """

    encoder: float = 0.4
    features: float = 1.0
    objects: int = 4
    rounds: int = 2
    entropy: float = 5.0
    dice: float = 5.0
    quality: float = 1.0
    heads: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, ("objects", "rounds"), 1)
        check_range(self, ("features", "entropy", "dice", "quality"), 0)
        check_range(self, ("encoder",), 0, 1)

    def build(self, student: ImageModel, teacher: ImageModel) -> "PromptsRecipe":
        """See `RecipeConfig.build`."""
        return PromptsRecipe(student, teacher, self)


class PromptsRecipe(Recipe):
    """Features, then the teacher's masks of the same prompts."""

    def __init__(self, student: ImageModel, teacher: ImageModel, config: PromptsConfig) -> None:
        super().__init__(student, teacher)
        self.config = config

    def losses(self, lesson: Lesson) -> dict[str, Tensor]:
        """See `Recipe.losses`."""
        second = lesson.progress >= self.config.encoder
        train_only(self.student, "encoder", *(("prompts", "decoder") if second and self.config.heads else ()))
        own = encoded(self.student, lesson.pictures)
        features = features_loss(own, lesson.features)
        if not second:
            return {"features": features}
        times, side = self.config.objects, self.student.spec.input_wh[0]
        own, theirs = repeated(own, times), repeated(lesson.features, times)
        objects = find_objects(self.teacher, theirs, side, lesson.covered)
        losses, errors, ious = [], [], []
        for answer in answers(self.student, own, self.teacher, theirs, objects, self.config.rounds):
            distance = mask_distance(answer.logits, answer.target, self.config.entropy, self.config.dice)
            losses.append(objects.mean(distance))
            errors.append(objects.mean(quality_error(answer.own, answer.target)))
            ious.append(objects.mean(soft_iou(answer.logits, answer.target)))
        return {
            "features": self.config.features * features,
            "masks": torch.stack(losses).mean(),
            "quality": self.config.quality * torch.stack(errors).mean(),
            "mask IoU": torch.stack(ious).mean(),
        }


VARIANTS = {"prompts": PromptsConfig()}
