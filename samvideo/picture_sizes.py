"""Sizes of pictures and prompts in a model's input, as its `PictureRule` says; no torch."""

import math
from dataclasses import replace

from samvideo.specs import ModelSpec, PictureRule

LEAST_STEPS = 4
"""Sides of an input are at least so many cells: a network's maps keep a few in each direction."""


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
