"""Distillation from an image SAM: its masks become soft targets, its image embedding is matched.

Sources: soft targets, Hinton et al. 2015; the embedding of a SAM as a target, MobileSAM (Zhang et al. 2023).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samvideo.checkpoints import load_any
from samvideo.encoders.base import WIDTH
from samvideo.errors import ConfigError
from samvideo.image_model import ImageModel
from samvideo.picture_sizes import prompt_scale
from samvideo.pictures import normalised
from samvideo.tensors import PromptTensors
from samvideo.training.losses import soft_iou
from samvideo.weights.naming import split_name

BATCH = 8
"""Pictures that a teacher encodes at once."""


@dataclass(frozen=True)
class TeacherConfig:
    """How much a teacher counts.

    Attributes:
        masks: its share in the targets, where its mask is the true one; in proportion to their IoU elsewhere.
        features: weight of the cosine distance of image embeddings.
    """

    masks: float = 0.5
    features: float = 1.0


class Teacher:
    """Answers a student's prompts.

    Args:
        model: the teacher, which is frozen.
        config: weights.

    Attributes:
        projection: from the student's image embedding to the teacher's; trained along, and of no use later.
    """

    def __init__(self, model: ImageModel, config: TeacherConfig) -> None:
        self.model, self.config = model.eval().requires_grad_(False), config
        self.projection = nn.Conv2d(WIDTH, WIDTH, 1).to(model.device)

    def teach(
        self, frames: Tensor, coarse: Tensor, prompts: PromptTensors, is_box: Tensor, truth: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(B, h, w) soft targets, and losses and measurements by name.

        Args:
            frames: (B, 3, S, S) in 0..1.
            coarse: (B, WIDTH, S/16, S/16), image embedding of the student.
            prompts: of an object in each, in pixels of the frames: boxes of two points, or one click and padding.
            is_box: (B,) which of them are boxes.
            truth: (B, h, w) masks in 0..1.
        """
        target, embedding, iou = (
            truth.clone(),
            torch.empty_like(coarse, dtype=torch.float),
            truth.new_zeros(len(truth)),
        )
        with torch.no_grad(), torch.autocast(frames.device.type, enabled=False):  # bfloat16 would move the clicks
            for kind, points in ((is_box, 2), (~is_box, 1)):
                for rows in torch.split(kind.nonzero()[:, 0], BATCH):
                    asked = PromptTensors(prompts.xy[rows, :points], prompts.labels[rows, :points])
                    found, answer = self._answer(frames[rows], asked, truth.shape[-2:])
                    embedding[rows] = F.adaptive_avg_pool2d(found, (coarse.shape[-2], coarse.shape[-1]))
                    mask, iou[rows] = _nearest(answer, truth[rows])
                    share = self.config.masks * iou[rows, None, None]
                    target[rows] = torch.lerp(truth[rows], mask, share)
        distance = 1 - F.cosine_similarity(self.projection(coarse).float(), embedding, dim=1).mean()
        return target, {"teacher features": self.config.features * distance, "teacher iou": iou.mean()}

    def _answer(self, frames: Tensor, prompts: PromptTensors, size_hw: torch.Size) -> tuple[Tensor, Tensor]:
        """Image embeddings, and logits (B, N, h, w) of all candidates; as a segmenter computes them."""
        model, size_wh = self.model, (frames.shape[-1], frames.shape[-2])
        spec = model.spec_for(size_wh)
        image = F.interpolate(frames, size=spec.input_wh[::-1], mode="bilinear", antialias=True)
        features = model.encode(normalised(image, spec))
        embedding = model.embedding(features)
        scale = torch.tensor(prompt_scale(size_wh, spec), device=frames.device)
        logits = model.decode(features, embedding, prompts._replace(xy=prompts.xy * scale)).logits_bnhw
        return embedding, F.interpolate(logits.float(), size=size_hw, mode="bilinear", antialias=True)


def _nearest(logits_bnhw: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities of the candidate that is nearest to the true mask, and its IoU."""
    count = logits_bnhw.shape[1]
    ious = soft_iou(logits_bnhw.flatten(0, 1), truth.repeat_interleave(count, 0)).view(-1, count)
    best = ious.argmax(1)
    rows = torch.arange(len(best), device=best.device)
    return logits_bnhw[rows, best].sigmoid(), ious[rows, best]


def load_teacher(text: str, device: str) -> ImageModel:
    """The model of MODEL or MODEL=FILE.

    Raises:
        ConfigError: no model of that name, or one without the image embedding of SAM.
        WeightsError: the weights are not available, or are another model's.
    """
    name, weights = split_name(text)
    model = load_any(name, weights=weights)
    if not isinstance(model, ImageModel):
        raise ConfigError(f"{name} cannot teach: it has no image embedding; mobilesam or another SAM expected")
    return model.to(device)
