"""Distillation at all stages at once, with hard prompts and hard masks: embedding, output tokens and masks.

Source: Shu et al. 2023, TinySAM (full-stage distillation, hard prompt sampling, hard mask weighting). Differences:
there are no true masks, so that the teacher's stand for them where hardness is measured; weights are chosen here.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from samvideo.image_model import ImageModel
from samvideo.training.distil_prompts import answers, find_objects, quality_error, repeated
from samvideo.training.distil_recipe import (
    Lesson,
    Recipe,
    RecipeConfig,
    check_range,
    encoded,
    features_loss,
    train_only,
)
from samvideo.training.losses import dice_loss, focal_loss, soft_iou


@dataclass(frozen=True)
class FullConfig(RecipeConfig):
    """Weights of the stages.

    Attributes:
        features, tokens, masks: weights of the losses.
        quality: weight of the error of the predicted IoU.
        objects: of a picture.
        rounds: answers to each prompt; all but the first have one more click where the masks differ.
        focal: weight of the focal loss of masks beside Dice, which has 1.
        hard: weight of objects whose IoU is below `limit`, beside 1 of the others.
        limit: of the IoU of both masks.
    """

    features: float = 1.0
    tokens: float = 1.0
    masks: float = 1.0
    quality: float = 1.0
    objects: int = 4
    rounds: int = 2
    focal: float = 20.0
    hard: float = 2.0
    limit: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, ("objects", "rounds"), 1)
        check_range(self, ("features", "tokens", "masks", "quality", "focal", "hard"), 0)
        check_range(self, ("limit",), 0, 1)

    def build(self, student: ImageModel, teacher: ImageModel) -> "FullRecipe":
        """See `RecipeConfig.build`."""
        return FullRecipe(student, teacher, self)


def hard_weights(iou: Tensor, limit: float, hard: float) -> Tensor:
    """(B,) weights: `hard` where the IoU is below the limit, 1 elsewhere."""
    return torch.where(iou < limit, hard, 1.0)


def token_loss(own: Tensor, target: Tensor) -> Tensor:
    """(B,) mean squared error of output tokens (B, N, C)."""
    return (own - target).square().mean((1, 2))


class FullRecipe(Recipe):
    """Encoder and heads learn together."""

    def __init__(self, student: ImageModel, teacher: ImageModel, config: FullConfig) -> None:
        super().__init__(student, teacher)
        self.config = config
        train_only(student, "encoder", "prompts", "decoder")

    def losses(self, lesson: Lesson) -> dict[str, Tensor]:
        """See `Recipe.losses`."""
        config, times = self.config, self.config.objects
        own = encoded(self.student, lesson.pictures)
        features = features_loss(own, lesson.features)
        own, theirs = repeated(own, times), repeated(lesson.features, times)
        objects = find_objects(self.teacher, theirs, self.student.spec.input_wh[0], lesson.covered)
        tokens, masks, errors, ious = [], [], [], []
        for answer in answers(self.student, own, self.teacher, theirs, objects, config.rounds):
            iou = soft_iou(answer.logits, answer.target)
            distance = config.focal * focal_loss(answer.logits, answer.target)
            distance = distance + dice_loss(answer.logits, answer.target)
            masks.append(objects.mean(hard_weights(iou, config.limit, config.hard) * distance))
            errors.append(objects.mean(quality_error(answer.own, answer.target)))
            ious.append(objects.mean(iou))
            if answer.own.tokens_bnc.shape == answer.theirs.tokens_bnc.shape and answer.own.tokens_bnc.numel():
                tokens.append(objects.mean(token_loss(answer.own.tokens_bnc, answer.theirs.tokens_bnc)))
        losses = {
            "features": config.features * features,
            "masks": config.masks * torch.stack(masks).mean(),
            "quality": config.quality * torch.stack(errors).mean(),
        }
        if tokens:
            losses["tokens"] = config.tokens * torch.stack(tokens).mean()
        return losses | {"mask IoU": torch.stack(ious).mean()}


VARIANTS = {"full": FullConfig()}
