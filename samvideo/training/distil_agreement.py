"""How well a student agrees with its teacher, on what validation keeps."""

import torch
from torch import Tensor

from samvideo.image_model import ImageModel
from samvideo.training.distil_prompts import ask, chosen, find_objects, picked, repeated
from samvideo.training.distil_recipe import Recipe, encoded, feature_errors
from samvideo.training.losses import soft_iou
from samvideo.training.prompting import box_prompts

PLACES = 4
"""Of a picture, at which the teacher is asked for objects to measure on."""


@torch.no_grad()
def agreement(
    student: ImageModel, teacher: ImageModel, pictures: Tensor, covered: Tensor, batch: int = 8
) -> dict[str, float]:
    """How well a student agrees with its teacher on pictures.

    Args:
        student, teacher: in evaluation mode.
        pictures: uint8 (N, 3, S, S), or clips (N, T, 3, S, S).
        covered: (N, 2) see `Lesson`.
        batch: pictures that are encoded at once.

    Returns:
        `mask IoU`, mean IoU of both models' masks on boxes around what the teacher finds at random places, and
        `feature error`, the mean of `feature_errors` of the coarse map, as the loss of it is.
    """
    if pictures.ndim == 5:
        pictures, covered = pictures.flatten(0, 1), covered.repeat_interleave(pictures.shape[1], 0)
    side, ious, errors = student.spec.input_wh[0], [], []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for some, places in zip(torch.split(pictures, batch), torch.split(covered, batch), strict=True):
            own, theirs = encoded(student, some), encoded(teacher, some)
            errors.append(feature_errors(own.coarse, theirs.coarse))
            own, theirs = repeated(own, PLACES), repeated(theirs, PLACES)
            objects = find_objects(teacher, theirs, side, places.to(teacher.device))
            prompts = box_prompts(objects.masks)
            answer = ask(teacher, theirs, prompts, side)
            index = chosen(teacher, answer, False)
            found = picked(ask(student, own, prompts, side), index)
            ious.append(soft_iou(found, (picked(answer, index) > 0).float())[objects.good > 0])
    iou = torch.cat(ious).mean().item() if len(torch.cat(ious)) else 0.0
    return {"mask IoU": iou, "feature error": torch.cat(errors).mean().item()}


@torch.no_grad()
def tracking(recipe: Recipe, clips: Tensor, covered: Tensor) -> dict[str, float]:
    """How well a student follows objects as its teacher does.

    Args:
        recipe: of clips.
        clips: uint8 (N, T, 3, S, S).
        covered: (N, 2) see `Lesson`.

    Returns:
        `tracked IoU`, mean IoU of both models' masks on all frames but the first, whose masks are given.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        device = recipe.student.device
        ious = torch.cat([recipe.tracked(clip, own.to(device)) for clip, own in zip(clips, covered, strict=True)])
    return {"tracked IoU": ious.mean().item() if len(ious) else 0.0}
