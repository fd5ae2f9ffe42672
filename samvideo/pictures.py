"""Pictures to inputs and masks back to pictures, as a model's `PictureRule` says."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from samvideo.geometry import resize_rgb
from samvideo.heads.masks import upsample
from samvideo.picture_sizes import fitted_wh
from samvideo.specs import ModelSpec
from samvideo.types import UInt8Array

_FILTERS = {"pil-bilinear": Image.Resampling.BILINEAR, "pil-bicubic": Image.Resampling.BICUBIC}


def resized(rgb: UInt8Array, spec: ModelSpec) -> Tensor:
    """A uint8 (H, W, 3) picture at its size in the input: (1, 3, h, w), bytes or, under "bilinear", in [0, 1]."""
    rule, (width, height) = spec.picture, spec.input_wh
    if rule.fit == "pad":
        width, height = fitted_wh((rgb.shape[1], rgb.shape[0]), spec.input_wh[0], rule)
    same = rgb.shape[:2] == (height, width)
    if rule.resize in _FILTERS and not same:
        rgb = np.asarray(Image.fromarray(rgb).resize((width, height), _FILTERS[rule.resize]))
    elif rule.resize == "area":
        rgb = resize_rgb(rgb, (width, height))
    image = torch.from_numpy(np.array(rgb)).permute(2, 0, 1)[None]
    if rule.resize == "bilinear":
        image = image.float() / 255
        if not same:
            image = F.interpolate(image, size=(height, width), mode="bilinear", align_corners=False)
    elif rule.resize == "bicubic" and not same:
        image = F.interpolate(image, size=(height, width), mode="bicubic", antialias=True, align_corners=False)
    return image


def to_input(rgb: UInt8Array, spec: ModelSpec, device: torch.device) -> Tensor:
    """A uint8 (H, W, 3) picture as a model's (1, 3, H, W) float32 input: normalised, then padded with zeros."""
    image = normalised(resized(rgb, spec).to(device, non_blocking=True), spec)
    width, height = spec.input_wh
    return F.pad(image, (0, width - image.shape[3], 0, height - image.shape[2]))


def normalised(image_bchw: Tensor, spec: ModelSpec) -> Tensor:
    """Bytes, or floats in [0, 1], as float32 with the encoder's mean and deviation taken out."""
    image = image_bchw.contiguous()  # interleaved, the subtraction of three means takes several times as long
    image = image.float() / 255 if image.dtype == torch.uint8 else image
    mean, std = (torch.tensor(x)[:, None, None].to(image.device, non_blocking=True) for x in (spec.mean, spec.std))
    return (image - mean) / std


def to_picture(logits_bnhw: Tensor, size_wh: tuple[int, int], spec: ModelSpec) -> Tensor:
    """(B, N, h, w) low-resolution logits at the size of the picture: (B, N, H, W)."""
    rule, size_hw = spec.picture, size_wh[::-1]
    if rule.masks == "bicubic":
        return F.interpolate(logits_bnhw, size=size_hw, mode="bicubic", align_corners=False)
    if rule.masks == "by-input":
        side = spec.prompt_wh[0]
        width, height = fitted_wh(size_wh, side, rule)
        times, rest = divmod(side, logits_bnhw.shape[-2])
        if not rest:  # rows that are padding need not be made, but for one that reaches into the others
            logits_bnhw = logits_bnhw[..., : math.ceil(height / times) + 1, :]
        rows = side if rest else times * logits_bnhw.shape[-2]
        logits_bnhw = upsample(logits_bnhw, (rows, side))[..., :height, :width]
    elif rule.masks == "crop":
        longest = max(size_wh)
        width, height = (max(1, int(logits_bnhw.shape[-1] * x / longest)) for x in size_wh)
        logits_bnhw = logits_bnhw[..., :height, :width]
    return upsample(logits_bnhw, size_hw)
