"""Logits of objects in windows of their own, as in `samvideo.windows`; no torch."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from samvideo.geometry import Box4, Window
from samvideo.types import BoolArray, FloatArray

OUTSIDE = -10.0
"""Logit outside of a window, and of the picture."""


class Detail(NamedTuple):
    """Logits (s, s) of one object in its window, finer than those of the whole picture."""

    logits: FloatArray
    window: Window

    def paste(self, size_wh: tuple[int, int]) -> FloatArray:
        """(H, W) logits of a picture of `size_wh`, negative outside of the window."""
        width, height = size_wh
        x, y, side = self.window
        x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + side, width), min(y + side, height)
        whole = np.full((height, width), OUTSIDE, np.float32)
        region = self.window.shares_of((x1, y1, x2, y2))
        whole[y1:y2, x1:x2] = sample(self.logits[None], region, (y2 - y1, x2 - x1))[0]
        return whole


def sample(maps_nhw: FloatArray, region: Box4, size_hw: tuple[int, int]) -> FloatArray:
    """A region of maps at another size, bilinear: (N, *size_hw), `OUTSIDE` where it is outside of the maps.

    Args:
        maps_nhw: of one object.
        region: x1, y1, x2, y2 in shares of the maps' sides.
        size_hw: height and width of the result.
    """
    x1, y1, x2, y2 = region
    across, down = _axis(x1, x2, size_hw[1], maps_nhw.shape[2]), _axis(y1, y2, size_hw[0], maps_nhw.shape[1])
    low, high, share, inside_down = down
    rows = maps_nhw[:, low] * (1 - share[:, None]) + maps_nhw[:, high] * share[:, None]
    low, high, share, inside_across = across
    found = np.asarray(rows[..., low] * (1 - share) + rows[..., high] * share, np.float32)
    found[:, ~(inside_down[:, None] & inside_across)] = OUTSIDE
    return found


def _axis(
    begin: float, end: float, size: int, length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatArray, BoolArray]:
    """Where `size` cells from `begin` to `end` lie on an axis of `length`: between which two, how far, whether."""
    shares = begin + (np.arange(size) + 0.5) / size * (end - begin)
    places = (shares * length - 0.5).clip(0, length - 1)
    low = places.astype(np.int64)
    high = np.minimum(low + 1, length - 1)
    return low, high, (places - low).astype(np.float32), (shares >= 0) & (shares <= 1)
