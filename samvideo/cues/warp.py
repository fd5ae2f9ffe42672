"""Dense optical flow in both directions, warping along it, and its reliability."""

from dataclasses import dataclass

import cv2
import numpy as np

from samvideo.cues.beside import beside
from samvideo.types import FloatArray, UInt8Array

# DIS matches patches of 8 pixels over a pyramid; below this side there is nothing to match.
SMALLEST = 16
_DESCENTS = 12  # gradient steps per patch, at most


@dataclass(frozen=True, eq=False)
class FlowPair:
    """Flow between a frame and the one before it, in pixels.

    Attributes:
        backward: float32 (h, w, 2), from each pixel of the new frame to the previous one.
        forward: float32 (h, w, 2), from each pixel of the previous frame to the new one.
    """

    backward: FloatArray
    forward: FloatArray


class DenseFlow:
    """Dense inverse search (Kroeger et al., ECCV 2016) from OpenCV.

    It is either matched down to single pixels, which improves the edges of masks, or refined variationally, which
    separates moving objects better; both together take several times as long.

    Args:
        stride: distance in pixels of patches of 8 pixels; ignored if `smooth`.
        smooth: whether to refine variationally (OpenCV's medium preset).
    """

    def __init__(self, stride: int = 4, smooth: bool = False) -> None:
        preset = cv2.DISOPTICAL_FLOW_PRESET_MEDIUM
        self._back, self._forth = cv2.DISOpticalFlow_create(preset), cv2.DISOpticalFlow_create(preset)
        for flow in () if smooth else (self._back, self._forth):
            flow.setFinestScale(0)
            flow.setPatchStride(stride)
            flow.setGradientDescentIterations(_DESCENTS)
            flow.setVariationalRefinementIterations(0)

    def between(self, previous: UInt8Array, current: UInt8Array) -> FlowPair:
        """Compute flow between two grey uint8 (h, w) frames; zero if a side is below `SMALLEST`."""
        if min(current.shape) < SMALLEST:
            zero = np.zeros((*current.shape, 2), np.float32)
            return FlowPair(zero, zero)
        forward = beside(lambda: self._forth.calc(previous, current, None))
        return FlowPair(self._back.calc(current, previous, None), forward.result())


def sources(backward: FloatArray) -> FloatArray:
    """Return the position of each pixel in the previous frame, float32 (h, w, 2), for `warp`."""
    height, width = backward.shape[:2]
    places = backward.copy()
    places[..., 0] += np.arange(width, dtype=np.float32)
    places[..., 1] += np.arange(height, dtype=np.float32)[:, None]
    return places


def warp(image: FloatArray | UInt8Array, places: FloatArray, nearest: bool = False) -> FloatArray:
    """Warp an image (h, w) or (h, w, c) of the previous frame along `sources`, replicating its border."""
    how = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    warped: FloatArray = cv2.remap(image, places, None, how, borderMode=cv2.BORDER_REPLICATE)
    return warped


def consistency(flow: FlowPair, places: FloatArray, before: FloatArray, lab: FloatArray) -> FloatArray:
    """Compute the reliability of the flow, float32 (h, w) in [0, 1].

    High where backward and forward flow agree, and where the warped frame has the colours of the new one.

    Args:
        flow: both directions.
        places: `sources(flow.backward)`.
        before, lab: float32 (h, w, 3), the previous and the new frame in Lab.
    """
    change = np.square(warp(before, places) - lab).sum(2)
    returned = warp(flow.forward, places)
    backward = flow.backward
    gap = _squared(backward + returned)
    length = _squared(backward) + _squared(returned)
    trust: FloatArray = cv2.exp(
        -gap / (2 * (1 + np.float32(0.05) * length)) - cv2.blur(change, (5, 5)) * np.float32(1 / 1800)
    )
    return trust


def _squared(vectors: FloatArray) -> FloatArray:
    return np.square(vectors[..., 0]) + np.square(vectors[..., 1])
