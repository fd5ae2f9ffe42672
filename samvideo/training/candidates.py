"""What is learned from the masks that a decoder proposes (Kirillov et al. 2023; Ravi et al. 2024, appendix D)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from samvideo.training.losses import dice_loss, focal_loss, hard_loss, soft_iou

MASK_LOSSES = {"focal": focal_loss, "hard": hard_loss, "dice": dice_loss}


@dataclass(frozen=True)
class MaskWeights:
    """Weights of the losses of masks: SAM's, and SAM 2's with `squared` off.

    Attributes:
        focal, hard, dice: of the mask (focal loss, cross-entropy of the hardest pixels, Dice); of several
            candidates, the best one learns.
        spread: share of the mean of all masks' losses; that of the best one has the rest.
        quality: of the error of the predicted IoU.
        presence: of the cross-entropy of the object score.
        squared: the error of the predicted IoU is squared, instead of absolute.
    """

    focal: float = 20.0
    hard: float = 0.0
    dice: float = 1.0
    spread: float = 0.0
    quality: float = 1.0
    presence: float = 1.0
    squared: bool = True


def chosen_losses(
    logits_bnhw: Tensor, quality_bn: Tensor, truth_bhw: Tensor, weights: MaskWeights
) -> tuple[Tensor, dict[str, Tensor]]:
    """The logits (B, h, w) that are rated best, detached, and losses by name, as means over the objects there are.

    Of the masks of an object, the best one learns, or all, by `spread`; all ratings do. Objects with an empty
    mask teach nothing.

    Args:
        logits_bnhw: of N candidates.
        quality_bn: their predicted IoU.
        truth_bhw: masks in 0..1.
        weights: of the losses.
    """
    count = logits_bnhw.shape[1]
    flat, truth = logits_bnhw.flatten(0, 1), truth_bhw.repeat_interleave(count, 0)
    used = {name: weight for name in MASK_LOSSES if (weight := getattr(weights, name))}
    masks = {name: weight * MASK_LOSSES[name](flat, truth).view(-1, count) for name, weight in used.items()}
    iou = soft_iou(flat, truth).view(-1, count)
    rows, best = torch.arange(len(logits_bnhw), device=flat.device), torch.stack([*masks.values()]).sum(0).argmin(1)
    rated = quality_bn.argmax(1)
    error = (quality_bn - iou).square() if weights.squared else (quality_bn - iou).abs()
    there = (truth_bhw.amax((1, 2)) > 0.5).float()

    def mean(values: Tensor) -> Tensor:
        return (values * there).sum() / there.sum().clamp(min=1)

    return logits_bnhw[rows, rated].detach(), {
        **{name: mean(torch.lerp(loss[rows, best], loss.mean(1), weights.spread)) for name, loss in masks.items()},
        "quality": weights.quality * mean(error.mean(1)),
        "iou": mean(iou[rows, rated]).detach(),
    }
