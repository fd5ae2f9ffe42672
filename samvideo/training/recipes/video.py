"""Distillation in two stages: the features of pictures, then those that are conditioned on memory, along clips.

Source: Zhou et al. 2025, EdgeTAM (distillation). Differences: there are no labels, so that objects are
what the teacher finds at random places of the first frame, and its masks are the targets; weights are chosen here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from samvideo.errors import ConfigError
from samvideo.image_model import ImageModel
from samvideo.models import VideoModel
from samvideo.tensors import Features, MaskCandidates, MaskPrediction
from samvideo.training.clip_propagation import ClipMemory
from samvideo.training.distil_prompts import Objects, find_objects, mask_distance, picked, quality_error, repeated
from samvideo.training.distil_recipe import (
    Lesson,
    Recipe,
    RecipeConfig,
    check_range,
    encoded,
    feature_errors,
    features_loss,
    resized,
    train_only,
)
from samvideo.training.losses import soft_iou


@dataclass(frozen=True)
class VideoConfig(RecipeConfig):
    """Two stages.

    Attributes:
        length, stride: frames of a clip, and their distance.
        pictures: share of the steps of stage 1, in which the encoder alone learns, from features.
        objects: of a clip.
        features, memory: weights of the losses of features, and of those that are conditioned on memory.
        entropy, dice, quality, presence: weights of the losses of masks, of their predicted IoU, and of whether an
            object is there.
    """

    batch: ClassVar[int] = 2  # of 4 frames: as many as the pictures of other recipes
    length: int = 4
    stride: int = 2
    pictures: float = 0.5
    objects: int = 3
    features: float = 1.0
    memory: float = 1.0
    entropy: float = 5.0
    dice: float = 1.0
    quality: float = 1.0
    presence: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, ("length",), 2)
        check_range(self, ("stride", "objects"), 1)
        check_range(self, ("features", "memory", "entropy", "dice", "quality", "presence"), 0)
        check_range(self, ("pictures",), 0, 1)

    def build(self, student: ImageModel, teacher: ImageModel) -> "VideoRecipe":
        """See `RecipeConfig.build`."""
        for model in (student, teacher):
            if not isinstance(model, VideoModel):
                raise ConfigError(f"{model.name} has no memory, which recipe 'video' distils: take another")
        return VideoRecipe(student, teacher, self)


class _Followed(NamedTuple):
    """What both models make of the objects of a clip on one frame.

    Attributes:
        embedding, target: features of the student and of the teacher that are conditioned on memory.
        answer: candidates of the student.
        logits: of its mask in the teacher's place.
        objects: as they were found on the first frame.
        seen: their masks by the teacher; good where the object was, and is still there.
        there: (O,) of 0 and 1, whether the teacher sees the object.
    """

    embedding: Tensor
    target: Tensor
    answer: MaskCandidates
    logits: Tensor
    objects: Objects
    seen: Objects
    there: Tensor


class VideoRecipe(Recipe):
    """The encoder learns first, then all of the student."""

    def __init__(self, student: ImageModel, teacher: ImageModel, config: VideoConfig) -> None:
        super().__init__(student, teacher)
        assert isinstance(student, VideoModel)
        assert isinstance(teacher, VideoModel)
        self.own, self.theirs, self.config = student, teacher, config
        self.clip = (config.length, config.stride)

    def losses(self, lesson: Lesson) -> dict[str, Tensor]:
        """See `Recipe.losses`; the pictures are clips of `length` frames, one after the other."""
        second = lesson.progress >= self.config.pictures
        further = ("memory", "pointers", "prompts", "decoder") if second else ()
        train_only(self.student, "encoder", *further)
        own = encoded(self.student, lesson.pictures)
        features = features_loss(own, lesson.features)
        if not second:
            return {"features": features}
        with torch.no_grad():
            attended = self.theirs.memory.self_attend(lesson.features)
        theirs, length = lesson.features._replace(self_attended=attended), self.config.length
        found = []
        for first in range(0, len(lesson.pictures), length):
            clip = range(first, first + length)
            covered = None if lesson.covered is None else lesson.covered[first : first + 1]
            frames = self._propagated([_row(own, k) for k in clip], [_row(theirs, k) for k in clip], covered)
            found += [self._losses(frame) for frame in frames]
        means = {name: torch.stack([losses[name] for losses in found]).mean() for name in found[0]}
        return {"features": self.config.features * features} | means

    @torch.no_grad()
    def tracked(self, pictures: Tensor, covered: Tensor) -> Tensor:
        """See `Recipe.tracked`."""
        theirs = encoded(self.theirs, pictures)
        theirs = theirs._replace(self_attended=self.theirs.memory.self_attend(theirs))
        own, clip = encoded(self.own, pictures), range(len(pictures))
        frames = self._propagated([_row(own, k) for k in clip], [_row(theirs, k) for k in clip], covered[None])
        return torch.cat([soft_iou(frame.logits, frame.seen.masks)[frame.seen.good > 0] for frame in frames])

    def _propagated(
        self, own: list[Features], theirs: list[Features], covered: Tensor | None
    ) -> Iterator[_Followed]:
        """What both models make of the objects of a clip, on its frames but the first, on which masks are given."""
        count, side = self.config.objects, self.own.spec.input_wh[0]
        objects = find_objects(self.theirs, repeated(theirs[0], count), side, covered)
        mine, other = ClipMemory(self.own, count), ClipMemory(self.theirs, count)
        mine.remember(own[0], 0, _given(self.own, own[0], objects), prompted=True)
        with torch.no_grad():
            other.remember(theirs[0], 0, _given(self.theirs, theirs[0], objects), prompted=True)
        for index in range(1, len(own)):
            with torch.no_grad():
                target = other.embedding(theirs[index], index)
                candidates, prediction = _predicted(self.theirs, theirs[index], target)
                other.remember(theirs[index], index, prediction, prompted=False)
            embedding = mine.embedding(own[index], index)
            answer, guess = _predicted(self.own, own[index], embedding)
            mine.remember(own[index], index, guess, prompted=False)
            choice, _ = self.theirs.default_choice(candidates, self.theirs.is_ambiguous(None))
            logits = picked(answer, choice)
            mask = (resized(picked(candidates, choice)[:, None], logits)[:, 0] > 0).float()
            there = (prediction.presence > 0).float()
            seen = Objects(mask, objects.good * there)
            yield _Followed(embedding, target, answer, logits, objects, seen, there)

    def _losses(self, frame: _Followed) -> dict[str, Tensor]:
        """Losses and measurements of a frame."""
        config, logits, mask = self.config, frame.logits, frame.seen.masks
        presence = F.binary_cross_entropy_with_logits(
            frame.answer.presence_b.clamp(-20, 20), frame.there, reduction="none"
        )
        return {
            "memory": config.memory * frame.objects.mean(feature_errors(frame.embedding, frame.target)),
            "masks": frame.seen.mean(mask_distance(logits, mask, config.entropy, config.dice)),
            "quality": config.quality * frame.seen.mean(quality_error(frame.answer, mask)),
            "presence": config.presence * frame.objects.mean(presence),
            "mask IoU": frame.seen.mean(soft_iou(logits, mask)),
        }


def _row(features: Features, k: int) -> Features:
    """The features of one frame of a batch."""
    attended = features.self_attended
    fine = tuple(x[k : k + 1] for x in features.fine)
    return Features(features.coarse[k : k + 1], fine, None if attended is None else attended[k : k + 1])


def _given(model: VideoModel, features: Features, objects: Objects) -> MaskPrediction:
    """Masks of objects as a prompt of a model."""
    masks = F.interpolate(objects.masks[:, None], size=model.spec.input_wh[::-1], mode="nearest")
    return model.use_mask_as_output(features, masks)


def _predicted(model: VideoModel, features: Features, embedding: Tensor) -> tuple[MaskCandidates, MaskPrediction]:
    """What a model proposes for objects that it follows, and what it takes."""
    candidates = model.decode(features, embedding)
    return candidates, model.choose(candidates, *model.default_choice(candidates, model.is_ambiguous(None)))


VARIANTS = {"video": VideoConfig()}
