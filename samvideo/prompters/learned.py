"""Boxes from a learned head on the features of the model that segments: many coarse ones, few masks. Needs torch.

The head predicts a box at every place of the feature maps; of the best, box suppression leaves one for each object.
The segmenter answers these as it answers any box, and masks that it is not sure of, or has already, are dropped
(the order of Lite-SAM, Fu et al. 2024: an object prompt network, then masks of its boxes alone).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, TypeAdapter
from safetensors import SafetensorError, safe_open

from samvideo.errors import ConfigError, WeightsError
from samvideo.geometry import Box4
from samvideo.image_model import ImageModel
from samvideo.io.schema import parse_json
from samvideo.picture_sizes import prompt_scale
from samvideo.prompters.base import Boxes, MaskProposal, box_prompt, suppress, suppress_masks
from samvideo.prompters.boxes import Detections
from samvideo.prompters.objectness import ObjectnessHead
from samvideo.segmenters.image_model import ImageModelSegmenter, ModelImage
from samvideo.specs import BUNDLED_FOLDER
from samvideo.types import FloatArray, UInt8Array
from samvideo.weights.naming import is_random
from samvideo.weights.read import read_state
from samvideo.weights.untrained import random_weights


@dataclass(frozen=True)
class LearnedConfig:
    """Options.

    Attributes:
        candidates: places of the highest objectness that are looked at.
        least: objectness of a candidate.
        box_overlap: IoU of two boxes that both stay.
        proposals: boxes that are segmented, the best.
        quality: predicted IoU of a mask that stays.
        mask_overlap: IoU of two masks that both stay.
    """

    candidates: int = 400
    least: float = 0.03
    box_overlap: float = 0.65
    proposals: int = 50
    quality: float = 0.4
    mask_overlap: float = 0.8


class LearnedPrompter:
    """See the module; implements `samvideo.prompters.base.BoxFinder`.

    Args:
        segmenter: answers the boxes, and computes the features.
        head: trained on the features of its model; is moved to its device.
        config: options.
    """

    def __init__(
        self, segmenter: ImageModelSegmenter, head: ObjectnessHead, config: LearnedConfig = LearnedConfig()
    ) -> None:
        self._segmenter, self.config = segmenter, config
        self._head = head.eval().to(segmenter.model.device, segmenter.model.dtype)

    def propose(self, rgb: UInt8Array) -> list[MaskProposal]:
        """See `AutoPrompter.propose`: by objectness, which is the proposals' `score`, times predicted IoU."""
        image = self._segmenter.embed(rgb)
        found = self.detect(image)
        assert found.scores is not None
        boxes = [box_prompt((x1, y1, x2, y2)) for x1, y1, x2, y2 in found.boxes.astype(float).tolist()]
        whole = (0.0, 0.0, float(image.size_wh[0]), float(image.size_wh[1]))
        proposals = [
            MaskProposal(one.best, float(one.quality_n[one.chosen]), float("nan"), box, whole, score=score)
            for box, score, one in zip(boxes, found.scores.tolist(), image.segment(boxes), strict=True)
        ]
        return self._chosen([one for one in proposals if one.quality >= self.config.quality and one.mask.any()])

    def find_boxes(self, rgb: UInt8Array) -> tuple[Boxes, FloatArray]:
        """See `BoxFinder.find_boxes`."""
        found = self.detect(self._segmenter.embed(rgb))
        assert found.scores is not None
        return found.boxes, found.scores

    @torch.inference_mode()
    def detect(self, image: ModelImage) -> Detections:
        """Find the boxes of an image in pixels of it, with their objectness, the highest first."""
        config, places = self.config, self._head(image.features)
        scores, index = places.logits[0].float().sigmoid().sort(descending=True, stable=True)
        index = index[: config.candidates][scores[: config.candidates] >= config.least]
        boxes = places.boxes[0, index].cpu().numpy() * np.tile(_to_picture(self._segmenter.model, image), 2)
        boxes = boxes.clip(0, np.tile(image.size_wh, 2)).astype(np.float32)
        inside = (boxes[:, 2:] > boxes[:, :2]).all(1)
        boxes, rated = boxes[inside], scores[: len(index)].cpu().numpy()[inside]
        kept = suppress(boxes, rated, config.box_overlap)[: config.proposals]
        return Detections(boxes[kept], rated[kept])

    def _chosen(self, proposals: Sequence[MaskProposal]) -> list[MaskProposal]:
        """Those that stay, the best first."""
        ratings = np.array([one.quality * (one.score or 0.0) for one in proposals])
        kept = suppress_masks([one.mask for one in proposals], ratings, self.config.mask_overlap)
        return [proposals[row] for row in kept]


def _to_picture(model: ImageModel, image: ModelImage) -> Box4:
    """Factors from pixels of the input to those of the picture, across and down."""
    spec = model.spec_for(image.size_wh)
    return tuple(  # type: ignore[return-value]
        prompt / own / scale
        for prompt, own, scale in zip(spec.prompt_wh, spec.input_wh, prompt_scale(image.size_wh, spec), strict=True)
    )


class _Recipe(BaseModel):
    """What is read of the record of a training."""

    model: str


def load_learned(
    segmenter: ImageModelSegmenter, weights: Path | None = None, config: LearnedConfig = LearnedConfig()
) -> LearnedPrompter:
    """Make a prompter from a file of `samvideo train prompter`, or from the one that the package has for its model.

    Args:
        segmenter: of the model that the file was trained for.
        weights: the file, "random" for untrained weights from a fixed seed, or None for the package's.
        config: options.

    Raises:
        ConfigError: the package has none for this model.
        WeightsError: the file is not there, or of another model.
    """
    model = segmenter.model
    if is_random(weights):
        with random_weights(f"{model.name}-prompter"):
            return LearnedPrompter(segmenter, ObjectnessHead.of(model), config)
    file = bundled_file(model.name) if weights is None else weights
    if file is None:
        raise ConfigError(
            f"the package has no learned prompter for {model.name}: name a file of `samvideo train prompter "
            f"--model {model.name}` (learned=FILE), or another prompter"
        )
    state = read_state(file)
    trained_for = _trained_for(file)
    if trained_for not in (None, model.name):
        raise WeightsError(f"{file} finds objects by the features of {trained_for}, not of {model.name}")
    head = ObjectnessHead.of(model)
    try:
        head.load_state_dict(state)
    except RuntimeError as error:  # names each key
        raise WeightsError(
            f"{file} does not fit the features of {model.name}: a file of `samvideo train prompter --model "
            f"{model.name}` expected"
        ) from error
    return LearnedPrompter(segmenter, head, config)


def bundled_file(name: str) -> Path | None:
    """The file of the package for a model, None if there is none."""
    file = BUNDLED_FOLDER / f"{name}-prompter.safetensors"
    return file if file.is_file() else None


def _trained_for(file: Path) -> str | None:
    """Name of the model in the record of a training, None if the file has no record."""
    try:
        with safe_open(file, "pt") as opened:
            record = (opened.metadata() or {}).get("recipe")
    except SafetensorError:
        return None
    if record is None:
        return None
    expected = "weights of `samvideo train prompter`"
    return parse_json(record.encode(), TypeAdapter(_Recipe), str(file), expected, WeightsError).model
