"""Square windows around an object, resampled to one size for a small network."""

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from samvideo.cues.patch import Patch, Region
from samvideo.types import FloatArray, UInt8Array

Pixel = TypeVar("Pixel", np.float32, np.uint8)


@dataclass(frozen=True)
class Window:
    """A square in pixels of an image of `shape`; it may extend beyond the image.

    Attributes:
        x, y: top left corner.
        side: its length.
        shape: (h, w) of the image.
    """

    x: int
    y: int
    side: int
    shape: tuple[int, int]

    @classmethod
    def around(cls, inside: UInt8Array, grow: float, margin: int, least: int) -> "Window":
        """Return a window around the non-zero pixels (h, w), `grow` times and `margin` pixels larger."""
        x, y, w, h = cv2.boundingRect(inside)
        side = max(least, round(grow * max(w, h)) + margin)
        height, width = inside.shape
        return cls(x + w // 2 - side // 2, y + h // 2 - side // 2, side, (height, width))

    @property
    def region(self) -> Region:
        """The part of the image that it covers."""
        height, width = self.shape
        top, left = min(max(0, self.y), height), min(max(0, self.x), width)
        bottom, right = max(top, min(height, self.y + self.side)), max(left, min(width, self.x + self.side))
        return slice(top, bottom), slice(left, right)

    def resample(self, part: NDArray[Pixel], size: int) -> NDArray[Pixel]:
        """Resample the content of `region`, (h, w) or (h, w, c) of any size, to (size, size) or (size, size, c).

        Pixels outside the image are zero.
        """
        if part.ndim == 3 and part.shape[2] > 4:  # OpenCV resizes at most four channels
            return np.dstack([self.resample(part[..., k : k + 4], size) for k in range(0, part.shape[2], 4)])
        rows, columns = self.region
        scale = size / self.side
        top, bottom = round((rows.start - self.y) * scale), round((rows.stop - self.y) * scale)
        left, right = round((columns.start - self.x) * scale), round((columns.stop - self.x) * scale)
        crop = np.zeros((size, size, *part.shape[2:]), part.dtype)
        if bottom > top and right > left and part.size:
            shrinks = bottom - top < part.shape[0]
            how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            crop[top:bottom, left:right] = cv2.resize(part, (right - left, bottom - top), interpolation=how)
        return crop

    def cut(self, picture: NDArray[Pixel], size: int) -> NDArray[Pixel]:
        """Crop the window from an image of the same view and any resolution, resampled to (size, size)."""
        (rows, columns), (height, width) = self.region, self.shape
        down, across = picture.shape[0] / height, picture.shape[1] / width
        part = picture[
            round(rows.start * down) : round(rows.stop * down),
            round(columns.start * across) : round(columns.stop * across),
        ]
        return self.resample(part, size)

    def patch(self, logits: FloatArray) -> Patch:
        """Wrap log-odds (size, size) of this window as a patch of the image."""
        height, width = self.shape
        x1, y1 = self.x / width, self.y / height
        return Patch((x1, y1, x1 + self.side / width, y1 + self.side / height), logits)
