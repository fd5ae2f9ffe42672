"""Any image or video model of the SAM family as a segmenter. Needs torch."""

from typing import NamedTuple

import numpy as np
import torch

from samvideo.heads.masks import single_if_stable, upsample
from samvideo.models import MEMORY_BIAS, MEMORY_SCALE, ImageModel, is_ambiguous
from samvideo.object_prompts import ObjectPrompt, input_points
from samvideo.segmenters.base import Segmentation
from samvideo.tensors import Features, PromptTensors
from samvideo.torch_runtime import resize_mask, resolve_device
from samvideo.types import BoolArray, UInt8Array


class ImageEmbedding(NamedTuple):
    """Features of an image and its size, width and height in pixels."""

    features: Features
    size_wh: tuple[int, int]


class ImageModelSegmenter:
    """Segments with a SAM; implements `samvideo.segmenters.base.Segmenter`.

    An ambiguous prompt, a single click, gives three candidates, any other one.

    Args:
        model: is moved, put in evaluation mode and fused, all in place.
        device, dtype: where and how to compute; see `samvideo.torch_runtime.resolve_device`.
    """

    lookahead = 0

    def __init__(
        self, model: ImageModel, *, device: str | torch.device = "cpu", dtype: str | torch.dtype = "fp32"
    ) -> None:
        where = resolve_device(device, dtype)
        model.eval().fuse()
        self._model = model.convert(*where)

    @torch.inference_mode()
    def embed(self, rgb: UInt8Array, upcoming: UInt8Array | None = None) -> ImageEmbedding:
        """See `Segmenter.embed`."""
        return ImageEmbedding(self._model.encode(self._model.preprocess(rgb)), (rgb.shape[1], rgb.shape[0]))

    @torch.inference_mode()
    def segment(
        self, embedding: ImageEmbedding, prompt: ObjectPrompt, previous: BoolArray | None = None
    ) -> Segmentation:
        """See `Segmenter.segment`."""
        model, (features, size_wh) = self._model, embedding
        xy, labels = input_points(prompt, size_wh, model.spec.input_wh)
        points = PromptTensors(*(torch.from_numpy(x)[None].to(model.device) for x in (xy, labels)))
        logits = None
        if previous is not None and previous.any():
            width, height = features.grid[1] * 4, features.grid[0] * 4
            logits = (resize_mask(previous, (width, height)) * MEMORY_SCALE + MEMORY_BIAS).to(model.device)
        candidates = model.decode(features, model.embedding(features), points, logits)
        chosen = torch.arange(1, 4) if is_ambiguous(points, logits) else single_if_stable(candidates).cpu()
        masks = upsample(candidates.logits_bnhw[0, chosen, None], size_wh[::-1])[:, 0] > 0
        return Segmentation(masks.cpu().numpy(), candidates.quality_bn[0, chosen].cpu().numpy().astype(np.float32))
