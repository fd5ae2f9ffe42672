"""Holes and islands of masks that are too small, as SAM's automatic mask generator removes them."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from samvideo.prompters.base import MaskProposal, inclusive_box, suppress
from samvideo.types import BoolArray


def without_small_regions(proposals: Sequence[MaskProposal], least: int, most_overlap: float) -> list[MaskProposal]:
    """Fill holes and drop islands, and suppress those that are alike now: masks that did not change come first.

    Args:
        proposals: in their order.
        least: pixels of a hole or an island that stays; 0 changes nothing.
        most_overlap: IoU of the boxes of two masks that both stay.
    """
    if least <= 0 or not proposals:
        return list(proposals)
    changed = []
    for one in proposals:
        filled, had_holes = fill_holes(one.mask, least)
        mask, had_islands = drop_islands(filled, least)
        changed.append((replace(one, mask=mask), had_holes or had_islands))
    boxes = np.array([inclusive_box(one.mask) for one, _ in changed], np.float32)
    scores = np.array([0.0 if touched else 1.0 for _, touched in changed])
    return [changed[row][0] for row in suppress(boxes, scores, most_overlap)]


def fill_holes(mask: BoolArray, least: int) -> tuple[BoolArray, bool]:
    """Fill holes of fewer than `least` pixels; also returns whether there were any."""
    labels, small, _ = _regions(~mask, least)
    return mask | np.isin(labels, small), bool(len(small))


def drop_islands(mask: BoolArray, least: int) -> tuple[BoolArray, bool]:
    """Drop parts of fewer than `least` pixels, but the largest one stays; also returns whether there were any."""
    labels, small, sizes = _regions(mask, least)
    if not len(small):
        return mask, False
    if len(small) == len(sizes):
        return labels == 1 + int(sizes.argmax()), True
    return mask & ~np.isin(labels, small), True


def _regions(mask: BoolArray, least: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label 8-connected regions from 1 on: labels (H, W), labels of the small ones, and the sizes of all."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    sizes = stats[1:, cv2.CC_STAT_AREA]
    return labels, 1 + np.flatnonzero(sizes < least), sizes
