"""Conversion of boxes, points and masks between video and model pixels; NumPy and OpenCV only."""

from typing import NamedTuple

import cv2
import numpy as np

from samvideo.errors import PromptError
from samvideo.types import BoolArray, FloatArray, UInt8Array, image_wh

Box4 = tuple[float, float, float, float]
MARGIN = 1.5
"""Side of a window in longer sides of what it is around: prompts are seldom exact, and contours need context."""
LEAST_SIDE = 32
"""Of a window, in pixels of the picture: in fewer there is nothing more to be seen."""


class Window(NamedTuple):
    """A square of a picture in whole pixels: its left and top edge, which may be outside, and its side."""

    x: int
    y: int
    side: int

    def shares(self, size_wh: tuple[int, int]) -> Box4:
        """The window in shares of a picture of `size_wh`: x1, y1, x2, y2, which are 0, 0, 1, 1 for all of it."""
        width, height = size_wh
        return self.x / width, self.y / height, (self.x + self.side) / width, (self.y + self.side) / height

    def shares_of(self, box: Box4) -> Box4:
        """A box of the picture in shares of the window."""
        x1, y1, x2, y2 = box
        side = self.side
        return (x1 - self.x) / side, (y1 - self.y) / side, (x2 - self.x) / side, (y2 - self.y) / side


def scale_points(xy: FloatArray, from_wh: tuple[int, int], to_wh: tuple[int, int]) -> FloatArray:
    """Scale (N, 2) pixel coordinates from one image size to another; the aspect ratio may differ."""
    factor = np.array([to_wh[0] / from_wh[0], to_wh[1] / from_wh[1]], np.float32)
    return np.asarray(xy, np.float32) * factor


def clip_box(xyxy: Box4, size_wh: tuple[int, int]) -> Box4:
    """Return the part of a box inside the frame; PromptError if there is none."""
    width, height = size_wh
    x1, y1, x2, y2 = xyxy
    clipped = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    if clipped[0] >= clipped[2] or clipped[1] >= clipped[3]:
        raise PromptError(
            f"box {xyxy} is outside the frame: x from 0 to {width} and y from 0 to {height} expected, "
            "in pixels of the video or image as displayed (`samvideo info` prints its size)"
        )
    return clipped


def check_points(xy: FloatArray, size_wh: tuple[int, int]) -> None:
    """Raise PromptError for the first point outside the frame."""
    outside = (xy < 0).any(1) | (xy > np.asarray(size_wh)).any(1)
    if outside.any():
        x, y = xy[outside][0]
        raise PromptError(
            f"point ({x:g}, {y:g}) is outside the frame: x from 0 to {size_wh[0]} and y from 0 to "
            f"{size_wh[1]} expected, in pixels of the video or image as displayed"
        )


def check_mask_size(mask: BoolArray, size_wh: tuple[int, int]) -> None:
    """Raise PromptError unless the mask has the frame's size."""
    if mask.shape != size_wh[::-1]:
        raise PromptError(
            f"the mask is {mask.shape[1]}x{mask.shape[0]}, the frame {size_wh[0]}x{size_wh[1]}: "
            "give the mask at the size of the video or image as displayed (resize it with nearest neighbour)"
        )


def mask_box(mask: BoolArray) -> Box4 | None:
    """Return the tightest box (x1, y1, x2, y2) around a mask, None if it is empty."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if not len(rows):
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def pairwise_box_iou(boxes_n4: FloatArray, others_m4: FloatArray) -> FloatArray:
    """(N, M) IoU of boxes x1, y1, x2, y2 with others; 0 for two boxes without area."""
    corners = (
        np.maximum(boxes_n4[:, None, :2], others_m4[:, :2]),
        np.minimum(boxes_n4[:, None, 2:], others_m4[:, 2:]),
    )
    shared = (corners[1] - corners[0]).clip(0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (boxes_n4, others_m4)]
    union = areas[0][:, None] + areas[1] - shared
    iou: FloatArray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return iou


def mask_centroid(mask: BoolArray) -> tuple[float, float] | None:
    """Return the mean (x, y) of the pixel centres of a mask, None if it is empty."""
    rows, columns = mask.sum(1), mask.sum(0)
    area = int(rows.sum())
    if area == 0:
        return None
    x = float(columns @ np.arange(mask.shape[1]) / area) + 0.5
    y = float(rows @ np.arange(mask.shape[0]) / area) + 0.5
    return x, y


def fit_size(size_wh: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return the size with the same aspect whose longer side is at most `longest`; never enlarges."""
    scale = min(1.0, longest / max(size_wh))
    return max(1, round(size_wh[0] * scale)), max(1, round(size_wh[1] * scale))


def resize_rgb(rgb: UInt8Array, size_wh: tuple[int, int]) -> UInt8Array:
    """Resize an image: area averaging to shrink, bilinear to enlarge."""
    if (rgb.shape[1], rgb.shape[0]) == size_wh:
        return rgb
    method = cv2.INTER_AREA if size_wh[0] < rgb.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(rgb, size_wh, interpolation=method), np.uint8)


def window_around(box: Box4) -> Window:
    """The window around a box (x1, y1, x2, y2) in pixels of the picture."""
    x1, y1, x2, y2 = box
    side = max(round(MARGIN * max(x2 - x1, y2 - y1)), LEAST_SIDE)
    return Window(round((x1 + x2 - side) / 2), round((y1 + y2 - side) / 2), side)


def cut(rgb: UInt8Array, window: Window) -> UInt8Array:
    """The (side, side, 3) pixels of a window; outside of the picture those at its edge are repeated."""
    width, height = image_wh(rgb)
    x, y, side = window
    left, top, right, bottom = max(-x, 0), max(-y, 0), max(x + side - width, 0), max(y + side - height, 0)
    inside = rgb[y + top : y + side - bottom, x + left : x + side - right]
    return np.asarray(cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_REPLICATE), np.uint8)


def prompt_window(xy: FloatArray, boxed: bool, mask: BoolArray | None, size_wh: tuple[int, int]) -> Window:
    """The window around prompts.

    Args:
        xy: (N, 2) points in pixels of the picture.
        boxed: whether the first two are the corners of a box.
        mask: (h, w) of the whole picture, at any size, which the prompts correct.
        size_wh: of the picture; without box and mask, all of it counts.
    """
    found = None if mask is None else mask_box(mask)
    if mask is None or found is None:
        corners = np.reshape(xy, (-1, 2)) if boxed else np.array([(0, 0), size_wh])
    else:
        cell = np.array(size_wh) / mask.shape[::-1]
        corners = np.concatenate([np.reshape(found, (2, 2)) * cell, xy])
    return window_around((*corners.min(0).tolist(), *corners.max(0).tolist()))
