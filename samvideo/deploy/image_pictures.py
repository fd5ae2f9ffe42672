"""Pictures to inputs and masks back, as `samvideo.pictures` has them in PyTorch; no torch."""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samvideo.geometry import resize_rgb
from samvideo.picture_sizes import fitted_wh
from samvideo.specs import ModelSpec
from samvideo.types import BoolArray, FloatArray, UInt8Array, image_wh

FILTERS = {
    "pil-bilinear": Image.Resampling.BILINEAR,
    "pil-bicubic": Image.Resampling.BICUBIC,
    "bicubic": Image.Resampling.BICUBIC,
}


def to_input(rgb: UInt8Array, spec: ModelSpec) -> FloatArray:
    """A uint8 (H, W, 3) picture as a model's (1, 3, H, W) input: normalised, then padded with zeros."""
    rule, size_wh = spec.picture, spec.input_wh
    if rule.fit == "pad":
        size_wh = fitted_wh(image_wh(rgb), size_wh[0], rule)
    if rule.resize in FILTERS and image_wh(rgb) != size_wh:
        rgb = np.asarray(Image.fromarray(rgb).resize(size_wh, FILTERS[rule.resize]))
    elif rule.resize == "area":
        rgb = resize_rgb(rgb, size_wh)
    image = rgb.astype(np.float32) / 255
    if rule.resize == "bilinear" and image_wh(rgb) != size_wh:
        image = np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_LINEAR))
    found = np.zeros((1, 3, *spec.input_wh[::-1]), np.float32)
    normalised = (image - np.array(spec.mean, np.float32)) / np.array(spec.std, np.float32)
    found[0, :, : size_wh[1], : size_wh[0]] = normalised.transpose(2, 0, 1)
    return found


def to_picture(logits_nhw: FloatArray, size_wh: tuple[int, int], spec: ModelSpec) -> BoolArray:
    """(N, h, w) low-resolution logits to (N, H, W) masks at the size of the picture."""
    return np.stack([_to_picture(logits, size_wh, spec) > 0 for logits in logits_nhw])


def _to_picture(logits: FloatArray, size_wh: tuple[int, int], spec: ModelSpec) -> NDArray[np.float32]:
    rule = spec.picture
    how = cv2.INTER_CUBIC if rule.masks == "bicubic" else cv2.INTER_LINEAR
    if rule.masks == "by-input":
        side = spec.prompt_wh[0]
        width, height = fitted_wh(size_wh, side, rule)
        logits = np.asarray(cv2.resize(logits, (side, side), interpolation=how), np.float32)[:height, :width]
    elif rule.masks == "crop":
        width, height = (max(1, int(logits.shape[1] * x / max(size_wh))) for x in size_wh)
        logits = logits[:height, :width]
    return np.asarray(cv2.resize(logits, size_wh, interpolation=how), np.float32)
