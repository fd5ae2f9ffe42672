"""Appearance of objects as feature vectors, by which an object that returns is recognised. Needs torch."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch

from samvideo.segmenters.base import Segmenter
from samvideo.types import BoolArray, FloatArray, UInt8Array


def appearance_of(segmenter: Segmenter) -> Callable[[UInt8Array, Sequence[BoolArray]], FloatArray] | None:
    """Return a function that computes feature vectors of objects, or None for a segmenter without a model.

    They are float32 (K, C): the mean of the coarse feature map over each object, minus that over the whole image,
    which all objects share.
    """
    from samvideo.segmenters.image_model import ImageModelSegmenter

    if not isinstance(segmenter, ImageModelSegmenter):
        return None
    model = segmenter.model

    @torch.inference_mode()
    def describe(rgb: UInt8Array, masks: Sequence[BoolArray]) -> FloatArray:
        coarse = model.encode(model.preprocess(rgb)).coarse[0].float().cpu().numpy()
        size_wh = coarse.shape[2], coarse.shape[1]
        shares = [cv2.resize(mask.astype(np.float32), size_wh, interpolation=cv2.INTER_AREA) for mask in masks]
        vectors = [(coarse * share).sum((1, 2)) / max(float(share.sum()), 1e-6) for share in shares]
        return np.asarray(np.stack(vectors) - coarse.mean((1, 2)), np.float32)

    return describe
