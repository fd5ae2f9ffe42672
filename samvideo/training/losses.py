"""Losses of mask prediction; logits and targets are (B, h, w), results one value per object."""

import torch
import torch.nn.functional as F
from torch import Tensor

HARD_SHARE = 0.25
"""Share of pixels, those with the highest loss, that count (hard-pixel cross-entropy)."""
FOCUS, OBJECT_SHARE = 2.0, 0.25
"""Exponent and weight of the object's pixels of the focal loss (Lin et al. 2017), as SAM has them."""
SMOOTH = 1.0
"""Pixels added to both sides of the Dice ratio, so that an empty mask has a loss."""


def mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """(B,) cross-entropy of the hardest pixels plus Dice; the target may be soft."""
    return hard_loss(logits, target) + dice_loss(logits, target)


def hard_loss(logits: Tensor, target: Tensor) -> Tensor:
    """(B,) cross-entropy of the hardest pixels; the target may be soft."""
    logits, target = logits.flatten(1), target.flatten(1)
    pixels = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return pixels.topk(max(1, round(HARD_SHARE * pixels.shape[1])), 1).values.mean(1)


def focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """(B,) cross-entropy of pixels, which count less where the prediction is good; the target may be soft."""
    logits, target = logits.flatten(1), target.flatten(1)
    pixels = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    error = (logits.sigmoid() - target).abs()
    share = OBJECT_SHARE * target + (1 - OBJECT_SHARE) * (1 - target)
    return (share * error**FOCUS * pixels).mean(1)


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """(B,) one minus the Dice ratio of the probability and the target, which may be soft."""
    probability, target = logits.flatten(1).sigmoid(), target.flatten(1)
    overlap = (probability * target).sum(1)
    return 1 - (2 * overlap + SMOOTH) / (probability.sum(1) + target.sum(1) + SMOOTH)


def soft_iou(logits: Tensor, target: Tensor) -> Tensor:
    """(B,) IoU of thresholded logits and targets; 1 where both are empty."""
    predicted, true = logits.flatten(1) > 0, target.flatten(1) > 0.5
    union = (predicted | true).sum(1)
    return torch.where(union > 0, (predicted & true).sum(1) / union.clamp(min=1), torch.ones_like(union).float())


def quality_loss(quality: Tensor, iou: Tensor) -> Tensor:
    """Cross-entropy of a predicted IoU in [0, 1] against the reached one: calibrated in the mean."""
    quality = quality.float().clamp(1e-4, 1 - 1e-4)
    return -(iou * quality.log() + (1 - iou) * (1 - quality).log())
