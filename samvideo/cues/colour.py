"""Colour cues: which colours belong to an object in the whole video, and near its last position."""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from samvideo.types import BoolArray, FloatArray, UInt8Array

_BINS = 16
_MINIMUM = 2e-5


def colour_bins(levels: UInt8Array) -> NDArray[np.int32]:
    """Return the cell of each pixel in a 16 x 16 x 16 histogram, int32 (h, w)."""
    cells = (levels >> 4).astype(np.int32)
    index: NDArray[np.int32] = (cells[..., 0] * _BINS + cells[..., 1]) * _BINS + cells[..., 2]
    return index


class GlobalColour:
    """Colour histograms of an object and its surroundings, from the prompted frame and from later ones.

    Attributes:
        keep: share of the prompted frame in the model.
        rate: at which the rest adapts to each frame.
    """

    def __init__(self, keep: float = 0.5, rate: float = 0.1) -> None:
        self.keep, self.rate = keep, rate
        self._first = self._recent = np.zeros((2, _BINS**3), np.float32)

    def learn(self, bins: NDArray[np.int32], inside: FloatArray, outside: FloatArray) -> None:
        """Initialise from a prompted frame, with weights (h, w) of object and surroundings."""
        self._first = self._recent = np.stack([_histogram(bins, inside), _histogram(bins, outside)])

    def follow(self, bins: NDArray[np.int32], inside: FloatArray, outside: FloatArray) -> None:
        """Adapt to a tracked frame."""
        fresh = np.stack([_histogram(bins, inside), _histogram(bins, outside)])
        self._recent = (1 - self.rate) * self._recent + self.rate * fresh

    def logits(self, bins: NDArray[np.int32], limit: float = 3.0, keep: float | None = None) -> FloatArray:
        """Return log-odds of the object given each pixel's colour, float32 (h, w) within ±limit."""
        keep = self.keep if keep is None else keep
        inside, outside = keep * self._first + (1 - keep) * self._recent
        table = np.clip(np.log((inside + _MINIMUM) / (outside + _MINIMUM)), -limit, limit)
        odds: FloatArray = table.astype(np.float32)[bins]
        return odds


def _histogram(bins: NDArray[np.int32], weight: FloatArray) -> FloatArray:
    counts = np.bincount(bins.ravel(), weight.ravel(), _BINS**3).astype(np.float32)
    cube = gaussian_filter(counts.reshape(_BINS, _BINS, _BINS), 0.6, truncate=3).ravel()
    density: FloatArray = cube / max(float(cube.sum()), 1e-6)
    return density


class Codebook:
    """A few dozen colour clusters of a scene; a table assigns the nearest one to each pixel."""

    def __init__(self, samples: FloatArray, words: int = 64) -> None:
        """Cluster (N, 3) colours in units of `View.levels`; there are at most as many clusters as colours."""
        distinct = len(np.unique(samples, axis=0)) if len(samples) < 4 * words else words
        count = max(1, min(words, distinct))
        cv2.setRNGSeed(0)
        stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 10, 1.0)
        _, _, centres = cv2.kmeans(np.ascontiguousarray(samples), count, None, stop, 1, cv2.KMEANS_PP_CENTERS)
        self.size = count
        side = np.arange(32, dtype=np.float32) * 8 + 4
        grid = np.stack(np.meshgrid(side, side, side, indexing="ij"), -1).reshape(-1, 3)
        distance = (centres**2).sum(1) - 2 * grid @ centres.T
        self._table = distance.argmin(1).astype(np.uint8)

    def assign(self, levels: UInt8Array) -> UInt8Array:
        """Return the index of the nearest cluster, uint8 (h, w)."""
        cells = (levels >> 3).astype(np.int32)
        words: UInt8Array = self._table[(cells[..., 0] << 10) | (cells[..., 1] << 5) | cells[..., 2]]
        return words


def local_colour_logits(
    words: UInt8Array, carried_words: UInt8Array, carried: FloatArray, window: int = 21, limit: float = 3.0
) -> FloatArray:
    """Compute log-odds of the object given each pixel's cluster, from that cluster's nearby pixels one frame ago.

    Args:
        words: uint8 (h, w) clusters of the new frame.
        carried_words: uint8 (h, w) clusters of the previous frame, warped.
        carried: float32 (h, w), the previous mask, warped.
        window: side of the neighbourhood in pixels of half the resolution.
        limit: bound of the result.

    Returns:
        float32 (h, w) within ±limit.
    """
    height, width = words.shape
    half = carried_words[::2, ::2]
    weight = np.ascontiguousarray(carried[::2, ::2])
    area = (window, window)
    present = np.unique(words)
    odds = np.empty((len(present), *half.shape), np.float32)
    for plane, word in zip(odds, present, strict=True):
        here: BoolArray = half == word
        everyone = cv2.boxFilter(here.astype(np.float32), -1, area, borderType=cv2.BORDER_CONSTANT)
        inside = cv2.boxFilter(weight * here, -1, area, borderType=cv2.BORDER_CONSTANT)
        outside = np.maximum(everyone - inside, 0)
        np.divide(inside + np.float32(3e-4), outside + np.float32(3e-4), out=plane)
    places = np.zeros(256, np.intp)
    places[present] = np.arange(len(present))
    result = odds[places[words], np.arange(height)[:, None] >> 1, np.arange(width)[None] >> 1]
    np.log(result, out=result)
    return np.clip(result, -limit, limit, out=result)
