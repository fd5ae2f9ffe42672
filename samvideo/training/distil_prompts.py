"""Prompts without labels: objects are what the teacher finds at random places; both models answer the same ones."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from samvideo.heads.masks import best_alternative
from samvideo.image_model import ImageModel
from samvideo.picture_sizes import prompt_scale
from samvideo.tensors import Features, MaskCandidates, PromptTensors
from samvideo.training.losses import dice_loss, soft_iou
from samvideo.training.prompting import STRIDE, box_prompts, click_prompts, corrected

AREAS = (2e-3, 0.8)
"""Least and largest share of the picture that an object of the teacher fills."""


class Objects(NamedTuple):
    """What a teacher finds in pictures.

    Attributes:
        masks: (B, h, w) of 0 and 1.
        good: (B,) of 0 and 1, whether the mask is an object's: neither a speck nor nearly all of the picture.
    """

    masks: Tensor
    good: Tensor

    def mean(self, values: Tensor) -> Tensor:
        """The mean of (B,) values over the good objects, 0 without any."""
        return (values * self.good).sum() / self.good.sum().clamp(min=1)


def ask(model: ImageModel, features: Features, prompts: PromptTensors, side: int) -> MaskCandidates:
    """What a model proposes.

    Args:
        model: of the features.
        features: B rows.
        prompts: of an object in each, in pixels of a square of `side`.
        side: the logits have a quarter of it.
    """
    placed = prompts._replace(xy=prompts.xy * prompt_scale((side, side), model.spec)[0])
    found = model.decode(features, model.embedding(features), placed)
    size = (side // STRIDE, side // STRIDE)
    if found.logits_bnhw.shape[-2:] == size:
        return found
    return found._replace(logits_bnhw=F.interpolate(found.logits_bnhw, size=size, mode="bilinear", antialias=True))


def chosen(model: ImageModel, candidates: MaskCandidates, ambiguous: bool) -> Tensor:
    """(B,) which candidate answers: the first or, on a single click, the best-rated alternative."""
    several = candidates.quality_bn.shape[1] > 1
    if several and (ambiguous or model.spec.answer == "alternatives"):
        return best_alternative(candidates)
    return torch.zeros(len(candidates.quality_bn), dtype=torch.long, device=candidates.quality_bn.device)


def picked(candidates: MaskCandidates, index: Tensor) -> Tensor:
    """(B, h, w) logits of one candidate each."""
    return candidates.logits_bnhw[torch.arange(len(index), device=index.device), index]


@torch.no_grad()
def find_objects(teacher: ImageModel, features: Features, side: int, covered: Tensor | None = None) -> Objects:
    """What the teacher takes for the object at a random place of each picture; masks at a quarter of `side`.

    Args:
        teacher: of the features.
        features: of B pictures, or with as many rows in succession for each of them.
        side: of the square.
        covered: (B, 2) see `Lesson`; places are in the picture, not in its padding.
    """
    count, device = len(features.coarse), features.coarse.device
    covered = torch.ones(1, 2, device=device) if covered is None else covered
    covered = covered.repeat_interleave(count // len(covered), 0)
    xy = side * torch.rand(count, 1, 2, device=device) * covered[:, None]
    found = ask(teacher, features, PromptTensors(xy, torch.ones(count, 1, device=device).long()), side)
    masks = (picked(found, chosen(teacher, found, True)) > 0).float()
    share = masks.mean((1, 2)) / covered.prod(1)
    return Objects(masks, ((share >= AREAS[0]) & (share <= AREAS[1])).float())


def first_prompts(masks: Tensor) -> tuple[PromptTensors, bool]:
    """A box around each mask, or a click inside of each, with equal chances; and whether it is a click."""
    click = bool(torch.rand(()) < 0.5)
    return (click_prompts if click else box_prompts)(masks), click


class Answer(NamedTuple):
    """Of both models, to the same prompts.

    Attributes:
        own, theirs: candidates of the student and of the teacher.
        target: (B, h, w) the teacher's mask, of 0 and 1.
        logits: (B, h, w) of the student's candidate in the same place.
    """

    own: MaskCandidates
    theirs: MaskCandidates
    target: Tensor
    logits: Tensor


def answers(
    student: ImageModel, own: Features, teacher: ImageModel, theirs: Features, objects: Objects, rounds: int
) -> Iterator[Answer]:
    """Ask both models for objects: by a box or a click first, then with further clicks where their masks differ.

    Args:
        student, own: a model, and its features of a picture for each object.
        teacher, theirs: likewise.
        objects: as `find_objects` has them.
        rounds: answers that are yielded.
    """
    side = student.spec.input_wh[0]
    prompts, click = first_prompts(objects.masks)
    for number in range(rounds):
        with torch.no_grad():
            candidates = ask(teacher, theirs, prompts, side)
            index = chosen(teacher, candidates, click and number == 0)
            target = (picked(candidates, index) > 0).float()
        found = ask(student, own, prompts, side)
        logits = picked(found, index)
        yield Answer(found, candidates, target, logits)
        prompts = corrected(prompts, logits.detach(), target)


def repeated(features: Features, times: int) -> Features:
    """Features with every row `times` times in succession."""
    return Features(
        features.coarse.repeat_interleave(times, 0), tuple(x.repeat_interleave(times, 0) for x in features.fine)
    )


def mask_distance(logits: Tensor, target: Tensor, entropy: float, dice: float) -> Tensor:
    """(B,) weighted sum of mean cross-entropy and Dice, of (B, h, w) logits and targets in 0..1."""
    pixels = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((1, 2))
    return entropy * pixels + dice * dice_loss(logits, target)


def quality_error(candidates: MaskCandidates, target: Tensor) -> Tensor:
    """(B,) mean absolute error of the IoU that a student predicts for its masks, against that with a teacher's.

    As SAM 2 is trained (Ravi et al. 2024, appendix D). Masks get no gradient of it, only ratings.

    Args:
        candidates: N of the student for each object.
        target: (B, h, w) the teacher's masks, of 0 and 1, at the size of the logits.
    """
    count = candidates.quality_bn.shape[1]
    reached = soft_iou(candidates.logits_bnhw.detach().flatten(0, 1), target.repeat_interleave(count, 0))
    return (candidates.quality_bn.float() - reached.view(-1, count)).abs().mean(1)
