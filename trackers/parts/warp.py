"""Dense optical flow both ways, warping along it, and where it can be believed."""

from dataclasses import dataclass

import cv2
import numpy as np

from samvideo.trackers.parts.beside import beside
from samvideo.types import FloatArray, UInt8Array

# DIS matches patches of 8 pixels over a pyramid; below this side there is nothing to match.
SMALLEST = 16
_DESCENTS = 12  # steps by which a patch is moved, at most


@dataclass(frozen=True, eq=False)
class FlowPair:
    """Flow between a picture and the one before it, in pixels.

    Attributes:
        backward: float32 (h, w, 2), from each pixel of the new picture to the previous one.
        forward: float32 (h, w, 2), from each pixel of the previous picture to the new one.
    """

    backward: FloatArray
    forward: FloatArray


class DenseFlow:
    """Dense inverse search (Kroeger et al., ECCV 2016) as OpenCV has it.

    It is matched down to single pixels, from which a mask's edge gains, or smoothed by variation, which tells
    better what moves as one; both at once take several times as long.

    Args:
        stride: pixels from patch to patch, of 8 pixels each, where it is not smooth.
        smooth: the second of the two, which is OpenCV's medium preset.
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
        """Flow between two grey uint8 (h, w) pictures; zero where a side is below `SMALLEST`."""
        if min(current.shape) < SMALLEST:
            zero = np.zeros((*current.shape, 2), np.float32)
            return FlowPair(zero, zero)
        forward = beside(lambda: self._forth.calc(previous, current, None))
        return FlowPair(self._back.calc(current, previous, None), forward.result())


def sources(backward: FloatArray) -> FloatArray:
    """float32 (h, w, 2): where in the previous picture each pixel comes from, for `warp`."""
    height, width = backward.shape[:2]
    places = backward.copy()
    places[..., 0] += np.arange(width, dtype=np.float32)
    places[..., 1] += np.arange(height, dtype=np.float32)[:, None]
    return places


def warp(picture: FloatArray | UInt8Array, places: FloatArray, nearest: bool = False) -> FloatArray:
    """Carry a picture (h, w) or (h, w, c) of the previous frame along `sources`; its border repeats outside."""
    how = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    warped: FloatArray = cv2.remap(picture, places, None, how, borderMode=cv2.BORDER_REPLICATE)
    return warped


def consistency(flow: FlowPair, places: FloatArray, before: FloatArray, lab: FloatArray) -> FloatArray:
    """Trust in the flow, float32 (h, w) in [0, 1].

    High where going back and forth ends at the start, and where the warped picture has the new one's colours.

    Args:
        flow: both directions.
        places: `sources(flow.backward)`.
        before, lab: float32 (h, w, 3), the previous and the new picture in Lab.
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
