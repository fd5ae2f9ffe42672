"""Which pixels move as the object does, and not as what surrounds it."""

import cv2
import numpy as np

from samvideo.types import FloatArray

_BINS = 64


def motion_logits(flow: FloatArray, prior: FloatArray, limit: float = 2.0) -> FloatArray:
    """Log-odds of the object given each pixel's motion.

    Two histograms of flow, weighted by the prior and by its complement, are compared; flow is taken relative
    to its median, in bins as wide as the scene's motion asks.

    Args:
        flow: float32 (h, w, 2), the surroundings of one object.
        prior: float32 (h, w), where the object is expected, in [0, 1].
        limit: bound of the result.

    Returns:
        float32 (h, w) within ±limit.
    """
    # Every third pixel tells the spread of the motion well enough.
    relative = flow - np.median(flow.reshape(-1, 2)[::3], axis=0).astype(np.float32)
    width = max(0.5, float(np.abs(relative).mean()) / 8)
    cells = np.clip(relative * np.float32(1 / width) + _BINS // 2, 0, _BINS - 1).astype(np.int32)
    index = cells[..., 1] * _BINS + cells[..., 0]
    inside, outside = _density(index, prior), _density(index, 1 - prior)
    odds = np.log((inside + 2e-3) / (outside + 2e-3)).astype(np.float32)
    smooth = cv2.blur(odds[index], (5, 5))
    return np.clip(smooth, -limit, limit)


def _density(index: FloatArray, weight: FloatArray) -> FloatArray:
    counts = np.bincount(index.ravel(), weight.ravel(), _BINS * _BINS).astype(np.float32)
    counts = cv2.GaussianBlur(counts.reshape(_BINS, _BINS), (0, 0), 1.5).ravel()
    density: FloatArray = counts / max(float(counts.sum()), 1e-6)
    return density
