"""Prompts that select among masks of everything (Zhao et al. 2023, Fast Segment Anything, section 3.3).

The masks may come from an instance segmenter, such as `samvideo.prompters.rcnn.Rcnn`, or any automatic prompter.
The rules are the published ones.

Counterpart: CASIA-IVA-Lab/FastSAM: fastsam/prompt.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from samvideo.errors import ConfigError, PromptError
from samvideo.geometry import check_points
from samvideo.prompters.base import MaskProposal
from samvideo.types import BoolArray, Box, FloatArray, Points, UInt8Array, image_wh

SMALLEST = 100  # pixels; masks of so many or fewer are not compared with a text
SHARPNESS = 100.0  # factor of similarities before the softmax: CLIP's logit scale
WHITE = 255

Similarity: TypeAlias = Callable[[Sequence[UInt8Array], str], FloatArray]
"""Cosine similarity of N crops, uint8 (h, w, 3), with a text: (N,)."""


def by_boxes(instances: Sequence[MaskProposal], boxes: Sequence[Box]) -> list[MaskProposal]:
    """Select the mask with the greatest IoU with each box, in the order of the boxes.

    Boxes are rounded to whole pixels. A mask that several boxes select is there once, with the first of them as its
    prompt. Of equal masks the first is selected: also where a box touches no mask at all.
    """
    found: dict[int, MaskProposal] = {}
    if instances:
        areas = np.array([one.area for one in instances])
        for box in boxes:
            best = int(_overlaps(instances, areas, box).argmax())
            found.setdefault(best, replace(instances[best], prompt=box))
    return list(found.values())


def _overlaps(instances: Sequence[MaskProposal], areas: np.ndarray, box: Box) -> np.ndarray:
    """(N,) IoU of masks of these areas with a box; 0 for nothing with nothing."""
    height, width = instances[0].mask.shape
    x1, y1 = (max(0, round(side)) for side in box.xyxy[:2])
    x2, y2 = max(x1, min(round(box.xyxy[2]), width)), max(y1, min(round(box.xyxy[3]), height))
    shared = np.array([np.count_nonzero(one.mask[y1:y2, x1:x2]) for one in instances])
    return shared / np.maximum((x2 - x1) * (y2 - y1) + areas - shared, 1)


def by_points(instances: Sequence[MaskProposal], points: Points, size_wh: tuple[int, int]) -> BoolArray:
    """Merge the masks under clicks on the object, less those under clicks beside it: bool (H, W).

    Masks are taken by area, the largest first, and for each of them the clicks in their order: a click in it on the
    object adds it, one beside the object takes it away. So a smaller mask overrides larger ones around it, and of
    two clicks in the same mask the later one decides.

    Raises:
        PromptError: a click is outside of the image.
    """
    check_points(points.xy, size_wh)
    width, height = size_wh
    pixels = np.minimum(points.xy.astype(np.int64), (width - 1, height - 1)).tolist()
    merged = np.zeros((height, width), bool)
    for one in sorted(instances, key=lambda one: -one.area):
        for (x, y), label in zip(pixels, points.labels.tolist(), strict=True):
            if one.mask[y, x]:
                merged[one.mask] = label == 1
    return merged


def by_text(
    instances: Sequence[MaskProposal], rgb: UInt8Array, text: str, similarity: Similarity
) -> MaskProposal | None:
    """Select the mask whose crop is most like a text, with the text as its label and its share as its score.

    A crop is the box of the mask, white outside of the mask. The score is a softmax over all masks of more than
    `SMALLEST` pixels, so that it says which mask fits best and not whether one fits. None if there are none.

    Args:
        instances: masks of the image.
        rgb: the image, uint8 (H, W, 3).
        text: what to select.
        similarity: compares crops with the text; `samvideo.prompters.huggingface.ClipSimilarity` as published.

    Raises:
        PromptError: there is no text.
        ConfigError: `similarity` did not give a finite number for each crop.
    """
    image_wh(rgb)
    if not text.strip():
        raise PromptError("the text by which to select a mask is empty")
    large = [one for one in instances if one.area > SMALLEST]
    if not large:
        return None
    scores = np.asarray(similarity([_crop(rgb, one.mask) for one in large], text), np.float64)
    if scores.shape != (len(large),) or not np.isfinite(scores).all():
        raise ConfigError(f"{len(large)} finite similarities expected, not an array {scores.shape}: {scores}")
    shares = np.exp(SHARPNESS * (scores - scores.max()))
    best = int(scores.argmax())
    return replace(large[best], label=text, score=float(shares[best] / shares.sum()))


def _crop(rgb: UInt8Array, mask: BoolArray) -> UInt8Array:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return np.where(mask[part][..., None], rgb[part], np.uint8(WHITE))
