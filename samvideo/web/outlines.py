"""Masks as outlines, which a page draws sharply at any zoom and in any colour."""

import cv2
import numpy as np

from samvideo.types import BoolArray, FrameResult
from samvideo.web.state import MaskOverlay

GRID = 1800
"""Outlines are followed on a grid whose longer side is at most this, and never more than twice the mask's."""


def outlines(mask: BoolArray, size_wh: tuple[int, int]) -> list[list[int]]:
    """Closed outlines of a mask, holes included, to be filled by the even-odd rule.

    Args:
        mask: bool (H, W), of any size.
        size_wh: the video's size, in tenths of whose pixels the outlines are given.

    Returns:
        One flat list [x0, y0, x1, y1, ...] per outline, in tenths of a pixel.
    """
    height, width = mask.shape
    # An outline runs through the centres of the border pixels: drawn twice as large it comes close to their edges.
    factor = min(2.0, GRID / max(mask.shape))
    grid_wh = max(1, round(width * factor)), max(1, round(height * factor))
    grid = cv2.resize(mask.astype(np.uint8), grid_wh, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(grid, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    tenths = 10 * np.array(size_wh) / np.array(grid_wh)
    lines = (cv2.approxPolyDP(contour, 1.0, True)[:, 0] for contour in contours)
    return [np.round((line + 0.5) * tenths).astype(int).ravel().tolist() for line in lines if len(line) > 2]


def overlays(result: FrameResult, size_wh: tuple[int, int], source: str) -> dict[int, MaskOverlay]:
    """Convert a result's masks to overlays, by object; `size_wh` is the video's size."""
    rows = zip(result.object_ids, result.masks, result.scores, result.present, strict=True)
    return {
        i: MaskOverlay(source, bool(present), round(float(score), 4), outlines(np.asarray(mask), size_wh))
        for i, mask, score, present in rows
    }
