"""Pictures to inputs and masks back to pictures, as a model's `PictureRule` says."""

import math
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from samvideo.geometry import resize_rgb
from samvideo.heads.masks import upsample
from samvideo.specs import ModelSpec, PictureRule
from samvideo.types import UInt8Array

LEAST_STEPS = 4
"""Sides of an input are at least so many cells: a network's maps keep a few in each direction."""
_FILTERS = {"pil-bilinear": Image.Resampling.BILINEAR, "pil-bicubic": Image.Resampling.BICUBIC}


def spec_for(spec: ModelSpec, size_wh: tuple[int, int], step: int) -> ModelSpec:
    """The spec for pictures of one size: under "area" one that stretches them to `area_wh`, else the same."""
    if spec.picture.fit != "area":
        return spec
    return replace(
        spec, input_wh=area_wh(size_wh, spec.input_wh, step), picture=replace(spec.picture, fit="stretch")
    )


def area_wh(size_wh: tuple[int, int], like_wh: tuple[int, int], step: int) -> tuple[int, int]:
    """Width and height of about the area of `like_wh` and the aspect ratio of `size_wh`.

    Both are multiples of `step`, and at least `LEAST_STEPS` of them: longer pictures are compressed.
    """
    area, least = math.prod(like_wh), LEAST_STEPS * step
    scale = math.sqrt(area / math.prod(size_wh))
    width, height = (min(max(side * scale, least), area / least) for side in size_wh)
    return tuple(max(round(side / step) * step, least) for side in (width, height))  # type: ignore[return-value]


def fitted_wh(size_wh: tuple[int, int], side: int, rule: PictureRule) -> tuple[int, int]:
    """Width and height that a picture takes in a square of `side`; all of it under "stretch"."""
    if rule.fit == "stretch":
        return side, side
    width, height = size_wh
    if rule.rounding == "down":
        aspect = width / height
        fitted = (side, int(side / aspect)) if aspect >= 1 else (int(side * aspect), side)
    else:
        scale = side / max(width, height)
        fitted = int(width * scale + 0.5), int(height * scale + 0.5)
    return max(fitted[0], 1), max(fitted[1], 1)


def prompt_scale(size_wh: tuple[int, int], spec: ModelSpec) -> tuple[float, float]:
    """Factors from pixels of a picture to the frame in which prompts are encoded, across and down."""
    width, height = size_wh
    if spec.picture.fit == "stretch":
        return spec.prompt_wh[0] / width, spec.prompt_wh[1] / height
    side = spec.prompt_wh[0]
    if spec.picture.rounding == "down":
        return side / max(size_wh), side / max(size_wh)
    fitted = fitted_wh(size_wh, side, spec.picture)
    return fitted[0] / width, fitted[1] / height


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
