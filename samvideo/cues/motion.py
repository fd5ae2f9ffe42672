"""Motion cues: which pixels move like the object and unlike its surroundings or the camera."""

import cv2
import numpy as np

from samvideo.cues.view import View
from samvideo.cues.warp import DenseFlow, consistency, sources
from samvideo.types import FloatArray

_BINS = 64
_GRID = 6  # spacing in pixels of the points from which camera motion is estimated


def motion_logits(flow: FloatArray, prior: FloatArray, limit: float = 2.0) -> FloatArray:
    """Compute log-odds of the object given each pixel's motion.

    Two histograms of flow, weighted by the prior and by its complement, are compared; flow is relative
    to its median, in bins whose width adapts to the motion of the scene.

    Args:
        flow: float32 (h, w, 2), the surroundings of one object.
        prior: float32 (h, w), where the object is expected, in [0, 1].
        limit: bound of the result.

    Returns:
        float32 (h, w) within ±limit.
    """
    # Every third pixel is enough for the median.
    relative = flow - np.median(flow.reshape(-1, 2)[::3], axis=0).astype(np.float32)
    width = max(0.5, float(np.abs(relative).mean()) / 8)
    cells = np.clip(relative * np.float32(1 / width) + _BINS // 2, 0, _BINS - 1).astype(np.int32)
    index = cells[..., 1] * _BINS + cells[..., 0]
    inside, outside = _density(index, prior), _density(index, 1 - prior)
    odds = np.log((inside + 2e-3) / (outside + 2e-3)).astype(np.float32)
    smooth = cv2.blur(odds[index], (5, 5))
    return np.clip(smooth, -limit, limit)


def own_motion(dense: DenseFlow, here: View, there: View) -> FloatArray:
    """Estimate motion relative to the camera: the flow between two frames minus the camera's, with its reliability.

    The camera motion is the affine motion of most pixels (RANSAC).

    Returns:
        float32 (h, w, 3) over the frame `here`: x and y in pixels, trust in [0, 1].
    """
    flow = dense.between(there.gray, here.gray)
    places = sources(flow.backward)
    trust = consistency(flow, places, there.lab, here.lab)
    rows, columns = np.mgrid[_GRID // 2 : len(trust) : _GRID, _GRID // 2 : trust.shape[1] : _GRID]
    sure = trust[rows, columns] > 0.5
    rows, columns = rows[sure], columns[sure]
    camera = None
    if len(rows) >= 12:
        start = np.stack([columns, rows], 1).astype(np.float32)
        camera = cv2.estimateAffine2D(start, places[rows, columns], ransacReprojThreshold=1.0)[0]
    moved = np.dstack([flow.backward, trust])
    if camera is None:
        moved[..., :2] -= np.median(flow.backward, (0, 1))
        return moved
    linear, shift = camera[:, :2].astype(np.float32), camera[:, 2].astype(np.float32)
    column, row = np.arange(trust.shape[1], dtype=np.float32), np.arange(len(trust), dtype=np.float32)[:, None]
    for k in range(2):
        moved[..., k] = places[..., k] - (column * linear[k, 0] + row * linear[k, 1] + shift[k])
    return moved


def own_speed(flow: FloatArray, belief: FloatArray) -> float:
    """Return the speed of an object relative to the background, in pixels (medians); 0 if either is empty.

    Args:
        flow: float32 (h, w, 2).
        belief: float32 (h, w), probability of the object.
    """
    own, rest = flow[belief > 0.5][::8], flow[::4, ::4][belief[::4, ::4] < 0.1]  # enough for a median
    if not (len(own) and len(rest)):
        return 0.0
    return float(np.hypot(*(np.median(own, 0) - np.median(rest, 0))))


def _density(index: FloatArray, weight: FloatArray) -> FloatArray:
    counts = np.bincount(index.ravel(), weight.ravel(), _BINS * _BINS).astype(np.float32)
    counts = cv2.GaussianBlur(counts.reshape(_BINS, _BINS), (0, 0), 1.5).ravel()
    density: FloatArray = counts / max(float(counts.sum()), 1e-6)
    return density
