"""Rectangles of an image: where cues are computed, and how results are put back."""

from dataclasses import dataclass

import cv2
import numpy as np

from samvideo.types import FloatArray

Region = tuple[slice, slice]


@dataclass(frozen=True, eq=False)
class Patch:
    """Log-odds of an object in a rectangle of an image of any size.

    Attributes:
        xyxy: the rectangle as shares of the image's width and height; it may extend beyond the image.
        logits: float32 (h, w), spread over the rectangle.
    """

    xyxy: tuple[float, float, float, float]
    logits: FloatArray

    @classmethod
    def of(cls, region: Region, logits: FloatArray, shape: tuple[int, int]) -> "Patch":
        """Return the patch of a region of an image of (h, w) pixels."""
        (rows, columns), (height, width) = region, shape
        edges = columns.start / width, rows.start / height, columns.stop / width, rows.stop / height
        return cls(edges, logits)

    def onto(self, shape: tuple[int, int]) -> tuple[Region, FloatArray]:
        """Return the region of an image of (h, w) pixels that the patch covers, and the log-odds there."""
        (height, width), (x1, y1, x2, y2) = shape, self.xyxy
        # a rounding error must not add a row
        rows = slice(max(0, int(y1 * height + 1e-3)), min(height, int(np.ceil(y2 * height - 1e-3))))
        columns = slice(max(0, int(x1 * width + 1e-3)), min(width, int(np.ceil(x2 * width - 1e-3))))
        across = self.logits.shape[1] / ((x2 - x1) * width)
        down = self.logits.shape[0] / ((y2 - y1) * height)
        x = (columns.start + 0.5 - x1 * width) * across - 0.5
        y = (rows.start + 0.5 - y1 * height) * down - 0.5
        size = max(0, columns.stop - columns.start), max(0, rows.stop - rows.start)
        if 0 in size:
            return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), np.float32)
        matrix = np.array([[across, 0, x], [0, down, y]], np.float32)
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        spread = cv2.warpAffine(self.logits, matrix, size, flags=how, borderMode=cv2.BORDER_REPLICATE)
        return (rows, columns), spread
