"""Faster R-CNN and Mask R-CNN of torchvision; Mask R-CNN also gives masks of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from samvideo.errors import ConfigError, WeightsError
from samvideo.prompters.base import MaskProposal
from samvideo.prompters.boxes import Detections
from samvideo.prompters.detectors import chosen, known_classes
from samvideo.torch_runtime import resolve_device
from samvideo.types import UInt8Array, image_wh

BUILDERS = {"faster-rcnn": "fasterrcnn_resnet50_fpn_v2", "mask-rcnn": "maskrcnn_resnet50_fpn_v2"}
THRESHOLD = 0.5  # of the score, as torchvision's examples have it


def load_rcnn(name: str, device: str, threshold: float | None, texts: tuple[str, ...] | None) -> "Rcnn":
    """Load one of `BUILDERS` with its weights of COCO; see `samvideo.prompters.detectors.load_detector`.

    The weights lie in the cache of torch.hub.
    """
    try:
        from torchvision.models import get_model, get_model_weights
    except (ImportError, RuntimeError) as error:  # a RuntimeError where it was built for another torch
        raise ConfigError(
            f"the detector {name} needs torchvision, which is not installed or does not fit the installed torch "
            f"({error}): pip install 'samvideo[detect]'"
        ) from error
    weights: Any = get_model_weights(BUILDERS[name]).DEFAULT
    classes = tuple(weights.meta["categories"])
    known_classes(name, classes[1:], texts)
    try:
        model = get_model(BUILDERS[name], weights=weights)
    except (OSError, RuntimeError) as error:  # no network, a download cut short
        raise WeightsError(
            f"the weights of {name} cannot be fetched ({error}): put {weights.url} in the folder checkpoints of "
            f"{torch.hub.get_dir()}"
        ) from error
    return Rcnn(model.eval().to(resolve_device(device, "fp32")[0]), classes, threshold, texts)


@dataclass(frozen=True)
class Rcnn:
    """A detector; with a Mask R-CNN also a `samvideo.prompters.base.AutoPrompter`.

    Attributes:
        model: of torchvision, ready for inference.
        classes: names by number.
        threshold: least score; None is `THRESHOLD`.
        texts: classes that are wanted; None is all.
    """

    model: Any
    classes: Sequence[str]
    threshold: float | None = None
    texts: tuple[str, ...] | None = None

    def __call__(self, rgb: UInt8Array) -> Detections:
        """Find boxes."""
        return self._found(rgb)[0]

    def propose(self, rgb: UInt8Array) -> list[MaskProposal]:
        """Find masks, by descending score; ConfigError for a network without masks."""
        found, masks = self._found(rgb)
        if masks is None:
            raise ConfigError("this network finds boxes only: mask-rcnn expected, or the prompter boxes")
        width, height = image_wh(rgb)
        whole = (0.0, 0.0, float(width), float(height))
        assert found.scores is not None
        assert found.labels is not None
        rows = zip(masks, found.scores.tolist(), found.labels, strict=True)
        return [
            MaskProposal((mask > 0.5).cpu().numpy(), score, float("nan"), None, whole, label, score)
            for mask, score, label in rows
        ]

    @torch.inference_mode()
    def _found(self, rgb: UInt8Array) -> tuple[Detections, Tensor | None]:
        """Boxes, and (N, H, W) probabilities of masks."""
        image_wh(rgb)
        device = next(self.model.parameters()).device
        image = torch.from_numpy(rgb.copy()).to(device).permute(2, 0, 1).float() / 255
        found = self.model([image])[0]
        labels = tuple(self.classes[number] for number in found["labels"].tolist())
        every = Detections(found["boxes"].cpu().numpy(), found["scores"].cpu().numpy(), labels)
        rows = chosen(every, THRESHOLD if self.threshold is None else self.threshold, self.texts)
        return every.select(rows), found["masks"][rows, 0] if "masks" in found else None
