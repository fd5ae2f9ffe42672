"""Masks drawn by hand: strokes of a brush, and polygons. A pixel belongs to them if its centre lies inside."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from samvideo.types import BoolArray
from samvideo.web.state import MaskOverlay

Point = tuple[float, float]


def stroke(mask: BoolArray, points: Sequence[Point], radius: float, *, erase: bool) -> BoolArray:
    """Add a stroke to a mask, or take it away.

    Args:
        mask: bool (H, W); it is not modified.
        points: (x, y) of the brush's centre in pixels, at least one.
        radius: of the brush in pixels.
        erase: whether what the brush covers is taken away.
    """
    covered = np.zeros(mask.shape, bool)
    for (x1, y1), (x2, y2) in zip(points, points[1:] or points, strict=False):
        rows, columns = (
            np.arange(*np.clip((np.floor(min(ends) - radius), np.ceil(max(ends) + radius)), 0, size).astype(int))
            for ends, size in zip(((y1, y2), (x1, x2)), mask.shape, strict=True)
        )
        right, down = columns + 0.5 - x1, rows[:, None] + 0.5 - y1
        dx, dy = x2 - x1, y2 - y1
        along = np.clip((right * dx + down * dy) / max(dx**2 + dy**2, 1e-9), 0, 1)
        covered[np.ix_(rows, columns)] |= (right - along * dx) ** 2 + (down - along * dy) ** 2 < radius**2
    return mask & ~covered if erase else mask | covered


def polygon(mask: BoolArray, points: Sequence[Point]) -> BoolArray:
    """Add the inside of a polygon, (x, y) in pixels, to a bool (H, W) mask, which is not modified."""
    return mask | _inside([np.asarray(points, np.float64)], mask.shape)


def overlay_mask(overlay: MaskOverlay, size_wh: tuple[int, int]) -> BoolArray:
    """The bool (H, W) mask that an overlay shows."""
    shapes = [np.reshape(shape, (-1, 2)) / 10 for shape in overlay.shapes if overlay.present]
    return _inside(shapes, size_wh[::-1])


def _inside(shapes: Sequence[NDArray[np.float64]], shape_hw: tuple[int, ...]) -> BoolArray:
    """The pixels inside by the even-odd rule."""
    height, width = shape_hw
    crossed = np.zeros((height, width + 1), np.uint8)
    for shape in shapes:
        for (x1, y1), (x2, y2) in zip(shape, np.roll(shape, -1, 0), strict=True):
            top, bottom = np.clip(np.ceil(np.sort((y1, y2)) - 0.5), 0, height).astype(int)
            rows = np.arange(top, bottom)
            if rows.size:
                x = x1 + (rows + 0.5 - y1) * (x2 - x1) / (y2 - y1)
                crossed[rows, np.clip(np.ceil(x - 0.5), 0, width).astype(int)] ^= 1
    return np.bitwise_xor.accumulate(crossed, 1)[:, :width].astype(bool)
