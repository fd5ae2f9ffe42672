"""One frame at working size, with what all objects share, computed once and on demand."""

from functools import cached_property

import cv2
import numpy as np

from samvideo.geometry import fit_size, resize_rgb
from samvideo.types import FloatArray, UInt8Array

FEATURES = 13
# a and b of natural images are within 64 of grey: use all levels there.
_STRETCH = np.clip((np.arange(256) - 64) * 2, 0, 255).astype(np.uint8)


class View:
    """A frame resized to at most `longest` pixels on its longer side.

    Attributes:
        full: uint8 (H, W, 3), the frame itself.
        rgb: uint8 (h, w, 3).
        frame_wh: size of the frame it was made from.
    """

    def __init__(self, rgb: UInt8Array, longest: int) -> None:
        self.frame_wh = (rgb.shape[1], rgb.shape[0])
        self.full = rgb
        self.rgb = resize_rgb(rgb, fit_size(self.frame_wh, longest))

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w) of the working image."""
        return self.rgb.shape[0], self.rgb.shape[1]

    @cached_property
    def gray(self) -> UInt8Array:
        """uint8 (h, w)."""
        gray: UInt8Array = cv2.cvtColor(self.rgb, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
        return gray

    @cached_property
    def lab8(self) -> UInt8Array:
        """uint8 (h, w, 3) in OpenCV's 8-bit Lab."""
        lab: UInt8Array = cv2.cvtColor(self.rgb, cv2.COLOR_RGB2LAB).astype(np.uint8, copy=False)
        return lab

    @cached_property
    def lab(self) -> FloatArray:
        """`lab8` as float32."""
        return self.lab8.astype(np.float32)

    @cached_property
    def levels(self) -> UInt8Array:
        """uint8 (h, w, 3): Lab with a and b stretched over all 256 values, for binning."""
        levels = self.lab8.copy()
        levels[..., 1:] = _STRETCH[levels[..., 1:]]
        return levels

    @cached_property
    def features(self) -> FloatArray:
        """float32 (FEATURES, h, w): colour at three scales, contrast at two, edges; of order one."""
        lab = (self.lab - 128) * np.float32(1 / 48)
        fine = cv2.GaussianBlur(lab, (0, 0), 2)
        height, width = self.shape
        half = cv2.resize(lab, (max(1, width // 2), max(1, height // 2)), interpolation=cv2.INTER_AREA)
        coarse = cv2.resize(cv2.GaussianBlur(half, (0, 0), 2.5), (width, height), interpolation=cv2.INTER_LINEAR)
        planes = np.empty((FEATURES, height, width), np.float32)
        for start, image in ((0, lab), (3, fine), (6, coarse)):
            for channel, plane in enumerate(cv2.split(image)):
                planes[start + channel] = plane
        light = np.ascontiguousarray(planes[0])
        smooth = cv2.blur(light, (9, 9))
        planes[9] = _deviation(light, 5)
        planes[10] = _deviation(light, 13)
        planes[11] = np.abs(cv2.Sobel(smooth, cv2.CV_32F, 1, 0))
        planes[12] = np.abs(cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
        return planes


def _deviation(plane: FloatArray, side: int) -> FloatArray:
    """Return twice the standard deviation in a window, which is of order one."""
    mean = cv2.blur(plane, (side, side))
    spread: FloatArray = 2 * np.sqrt(np.maximum(cv2.blur(plane * plane, (side, side)) - mean * mean, 0))
    return spread
