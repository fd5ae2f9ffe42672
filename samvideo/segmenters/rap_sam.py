"""RAP-SAM as a segmenter of prompts, and of all objects of known classes. Needs torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from samvideo.errors import ConfigError, PromptError
from samvideo.heads.masks import upsample
from samvideo.networks.rap_sam import RapSam
from samvideo.object_prompts import ObjectPrompt
from samvideo.pictures import normalised
from samvideo.segmenters.base import Chooser, EmbeddedImage, Previous, Segmentation, by_quality
from samvideo.specs import IMAGE_SPECS, ModelSpec
from samvideo.torch_runtime import resolve_device
from samvideo.types import BoolArray, FloatArray, UInt8Array, image_wh

CLICK_RADIUS = 3
"""Half the side of the box that stands for a click, in pixels of the input, as published."""
BATCH = 16
"""At most this many queries are decoded, and their masks resized, at a time: it bounds memory."""


@dataclass(frozen=True, eq=False)
class PanopticMasks:
    """What was found without prompts. Masks may overlap: they are the network's queries, not merged into one map.

    Attributes:
        masks_nhw: bool (N, H, W) at the size of the image.
        classes_n: (N,) row of the class embeddings.
        scores_n: float32 (N,) probability of that class.
        quality_n: float32 (N,) predicted IoU; may leave [0, 1].
    """

    masks_nhw: BoolArray
    classes_n: NDArray[np.int64]
    scores_n: FloatArray
    quality_n: FloatArray


class RapSamSegmenter:
    """Segments with RAP-SAM; implements `samvideo.segmenters.base.Segmenter`.

    The box and each click of an object are a query of their own, and give a candidate each. The model cannot take
    clicks that are not on the object, nor earlier masks of it, which are ignored.

    Args:
        network: is moved and put in evaluation mode, in place.
        device, dtype: where and how to compute; see `samvideo.torch_runtime.resolve_device`.
        choose: chooses among the candidates of an object.
        classes: class embeddings as of `samvideo.networks.rap_sam.read_classes`, for `RapSamImage.panoptic`.
        spec: the model's; its input size bounds the longer and the shorter side of the input.
    """

    lookahead = 0

    def __init__(
        self,
        network: RapSam,
        *,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype = "fp32",
        choose: Chooser = by_quality,
        classes: Tensor | None = None,
        spec: ModelSpec = IMAGE_SPECS["rap-sam-r50"],
    ) -> None:
        self.network, self.spec, self._choose = network.eval(), spec, choose
        network.convert(*resolve_device(device, dtype))
        self.classes = None if classes is None else classes.to(network.device)

    @torch.inference_mode()
    def embed(self, rgb: UInt8Array, upcoming: UInt8Array | None = None) -> "RapSamImage":
        """See `Segmenter.embed`."""
        size_wh = image_wh(rgb)
        image = to_input(rgb, self.spec, self.network.device, self.network.step)
        return RapSamImage(self, self.network(image), size_wh, self._choose)


class RapSamImage(EmbeddedImage):
    """An image encoded by RAP-SAM."""

    def __init__(
        self, segmenter: RapSamSegmenter, features: Tensor, size_wh: tuple[int, int], choose: Chooser
    ) -> None:
        super().__init__(size_wh, choose)
        self._decoder, self._classes = segmenter.network.decoder, segmenter.classes
        self.features, self._limits = features, segmenter.spec.input_wh

    @torch.inference_mode()
    def panoptic(self) -> PanopticMasks:
        """Find objects and stuff of the known classes.

        Raises:
            ConfigError: there are no class embeddings.
        """
        if self._classes is None:
            raise ConfigError(
                "RAP-SAM has no class embeddings, which are not part of its checkpoint: without prompts, it needs "
                "those of the classes to find; get their file from the publisher and give it as `classes` "
                "(see samvideo.networks.rap_sam.read_classes)"
            )
        last = self._decoder.panoptic(self.features, self._classes)[-1]
        assert last.classes_bnk is not None
        scores, classes = last.classes_bnk[0].softmax(-1).max(-1)
        kept = classes < last.classes_bnk.shape[-1] - 1  # the last class is background
        values = (t[kept].cpu().numpy() for t in (classes, scores, last.quality_bn[0]))
        return PanopticMasks(self._masks(last.logits_bnhw[0, kept]), *values)

    @torch.inference_mode()
    def _candidates(
        self, prompts: Sequence[ObjectPrompt], previous: Mapping[int, Previous], multimask: bool | None
    ) -> list[Segmentation]:
        boxes = [query_boxes(prompt, self.size_wh, self._limits) for prompt in prompts]
        queries = torch.from_numpy(np.concatenate(boxes)).to(self.features.device)
        masks, quality = [], []
        for begin in range(0, len(queries), BATCH):
            last = self._decoder.prompted(self.features, queries[begin : begin + BATCH])[-1]
            masks.append(self._masks(last.logits_bnhw[0]))
            quality.append(last.quality_bn[0].cpu().numpy())
        ends = np.cumsum([len(part) for part in boxes])[:-1]
        parts = zip(np.split(np.concatenate(masks), ends), np.split(np.concatenate(quality), ends), strict=True)
        return [Segmentation(prompt.object_id, *part) for prompt, part in zip(prompts, parts, strict=True)]

    def _masks(self, low: Tensor) -> BoolArray:
        """(N, h, w) logits to (N, H, W) masks at the size of the image."""
        masks = np.zeros((len(low), *self.size_wh[::-1]), bool)
        for begin in range(0, len(low), BATCH):
            part = to_picture(low[None, begin : begin + BATCH], self.size_wh, self._limits)[0]
            masks[begin : begin + BATCH] = (part > 0).cpu().numpy()
        return masks


def fitted(size_wh: tuple[int, int], limits: tuple[int, int]) -> tuple[float, tuple[int, int]]:
    """Factor and size with which an image fits into `limits`, as it lies or turned by a quarter."""
    scale = min(max(limits) / max(size_wh), min(limits) / min(size_wh))
    width, height = (max(1, int(side * scale + 0.5)) for side in size_wh)
    return scale, (width, height)


def to_input(rgb: UInt8Array, spec: ModelSpec, device: torch.device, step: int) -> Tensor:
    """A uint8 (H, W, 3) image as (1, 3, h, w): resized by OpenCV, normalised, padded to multiples of `step`."""
    _, (width, height) = fitted((rgb.shape[1], rgb.shape[0]), spec.input_wh)
    if rgb.shape[:2] != (height, width):
        rgb = np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    image = normalised(torch.from_numpy(np.array(rgb)).permute(2, 0, 1)[None].to(device), spec)
    padded = F.pad(image, (0, -width % step, 0, -height % step))
    return padded.contiguous(memory_format=torch.channels_last)


def to_picture(logits_bnhw: Tensor, size_wh: tuple[int, int], limits: tuple[int, int]) -> Tensor:
    """(B, N, h, w) low-resolution logits at the size of the image, by way of the input's: (B, N, H, W)."""
    _, (width, height) = fitted(size_wh, limits)
    grown = upsample(logits_bnhw, (4 * logits_bnhw.shape[2], 4 * logits_bnhw.shape[3]))
    return upsample(grown[..., :height, :width], size_wh[::-1])


def query_boxes(prompt: ObjectPrompt, size_wh: tuple[int, int], limits: tuple[int, int]) -> FloatArray:
    """The boxes that stand for an object's clicks and box: (N, 4) centre, width and height as fractions.

    Raises:
        PromptError: a click that is not on the object.
    """
    if (prompt.labels != 1).any():
        raise PromptError(
            f"object {prompt.object_id} has a click that is not on the object: RAP-SAM expects boxes and clicks on "
            "the object only; remove it, or take another model"
        )
    scale, inside = fitted(size_wh, limits)
    centres = np.floor(prompt.xy.astype(np.float64) * scale)
    boxes = np.concatenate([centres - CLICK_RADIUS, centres + CLICK_RADIUS], 1)
    if prompt.box is not None:
        boxes = np.concatenate([boxes, np.asarray(prompt.box)[None] * scale])
    corners = boxes.reshape(-1, 2, 2) / np.array(inside)
    return np.concatenate([corners.mean(1), corners[:, 1] - corners[:, 0]], 1).astype(np.float32)
