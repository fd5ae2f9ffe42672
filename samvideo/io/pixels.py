"""Conversion of decoded frames to upright 8-bit RGB; NumPy and OpenCV only.

Alpha is dropped, not blended: all readers return the stored colours, as ffplay shows them.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from samvideo.types import FloatArray, UInt8Array

PQ, HLG = 16, 18  # transfer functions of ITU-T H.273, table 3
BT2020 = 9  # colour primaries of ITU-T H.273, table 2
# BT.2020 to BT.709 primaries, linear light (ITU-R BT.2087, section 2.2 inverted)
_TO_709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)
_STEPS = 4096  # entries of the table back to 8 bits


@dataclass(frozen=True)
class Orientation:
    """Transform of a stored frame to upright: first swap the axes, then mirror."""

    transpose: bool = False
    flip_x: bool = False  # left-right
    flip_y: bool = False  # top-bottom
    clockwise: int = 0  # the rotation in degrees, without mirroring; informative

    @classmethod
    def of(cls, frame: Any) -> "Orientation":
        """Read the orientation of a decoded `av.VideoFrame`."""
        matrix = frame.side_data.get("DISPLAYMATRIX")
        return cls() if matrix is None else cls.from_matrix(bytes(matrix))

    @classmethod
    def from_matrix(cls, matrix: bytes) -> "Orientation":
        """Round a display matrix to the nearest orientation: nine native int32, (a b u, c d v, x y w).

        A stored point (x, y) is shown at (a x + c y, b x + d y) (ISO/IEC 14496-12, 6.2.2).
        """
        values = np.frombuffer(matrix, np.int32)[:9].astype(np.float64)
        if len(values) < 9 or not values[[0, 1, 3, 4]].any():
            return cls()
        a, b, c, d = values[[0, 1, 3, 4]]
        clockwise = round(float(np.degrees(np.arctan2(b, a))) / 90) * 90 % 360
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(True, bool(c < 0), bool(b < 0), clockwise)
        return cls(False, bool(a < 0), bool(d < 0), clockwise)

    def apply(self, rgb: UInt8Array) -> UInt8Array:
        """Return the upright image, contiguous; (H, W, 3) becomes (W, H, 3) if the axes are swapped."""
        if self.transpose:
            rgb = rgb.transpose(1, 0, 2)
        if self.flip_x:
            rgb = rgb[:, ::-1]
        if self.flip_y:
            rgb = rgb[::-1]
        return np.ascontiguousarray(rgb)


def rgb_of(frame: Any, reformatter: Any) -> UInt8Array:
    """Convert a decoded `av.VideoFrame` to 8-bit RGB (H, W, 3) with the colour matrix and range of the file.

    `reformatter` is a `VideoReformatter`, which caches its tables. A file without a stated matrix is read with
    BT.601, as swscale, OpenCV and decord do. PQ and HLG frames (HDR) are mapped to SDR:
    four times the HDR reference white of 203 cd/m2 (ITU-R BT.2408) becomes white.
    """
    if frame.color_trc in (PQ, HLG):
        deep = reformatter.reformat(frame, format="rgb48le").to_ndarray()
        return tone_map(deep, frame.color_trc, frame.color_primaries == BT2020)
    rgb: UInt8Array = reformatter.reformat(frame, format="rgb24").to_ndarray()
    return rgb


def tone_map(deep: NDArray[np.uint16], transfer: int, wide: bool) -> UInt8Array:
    """Map 16-bit HDR code values (H, W, 3) to 8-bit SDR; `wide` if the primaries are BT.2020."""
    light = _linear_table(transfer)[deep]
    if wide:
        light = np.maximum(cv2.transform(light, _TO_709), 0)
    toned = light * (1 + light / 16) / (1 + light)  # Reinhard (2002), eq. 4: white point at 4 x reference white
    codes = (np.minimum(toned, 1) * (_STEPS - 1)).astype(np.uint16)
    rgb: UInt8Array = _gamma_table()[codes]
    return rgb


@cache
def _linear_table(transfer: int) -> FloatArray:
    """Return the light of each 16-bit code value, relative to HDR reference white."""
    code = np.arange(65536) / 65535
    if transfer == PQ:  # SMPTE ST 2084
        power = code ** (1 / 78.84375)
        nits = 10000 * (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (1 / 0.1593017578125)
        return np.asarray(nits / 203, np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073  # ITU-R BT.2100, table 5
    scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    return np.asarray(1000 * scene**1.2 / 203, np.float32)  # on a 1000 cd/m2 display


@cache
def _gamma_table() -> UInt8Array:
    linear = np.arange(_STEPS) / (_STEPS - 1)
    return np.asarray(np.round(255 * linear ** (1 / 2.2)), np.uint8)
