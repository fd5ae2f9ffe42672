"""Draws masks, outlines and labels over a frame."""

import colorsys
import unicodedata
from collections.abc import Mapping

import cv2
import numpy as np

from samvideo.geometry import Box4, mask_box
from samvideo.types import BoolArray, FrameResult, UInt8Array

OPACITY = 0.45  # of the tint
MAX_DRAWN = 24  # characters of a label
GOLDEN = 0.61803398875  # golden ratio steps separate any number of hues


_Text = tuple[str, tuple[int, int], tuple[int, int, int]]  # with its corner and colour


def object_colour(object_id: int) -> tuple[int, int, int]:
    """Return the RGB colour of an object: bright, and the same in every frame and run."""
    hue = (0.03 + (object_id - 1) * GOLDEN) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.78, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def overlay(rgb: UInt8Array, result: FrameResult) -> UInt8Array:
    """Return a copy of the frame with every visible object tinted, outlined, and labelled with id, name, score."""
    image = rgb.copy()
    unit = max(1, round(min(rgb.shape[:2]) / 360))
    labels: list[_Text] = []
    lost: list[_Text] = []
    for object_id, mask, score, present in result.rows():
        box = mask_box(mask) if present else None
        colour, name = object_colour(object_id), _name(object_id, result.labels)
        if box is None:
            position = 4 * unit, (20 * len(lost) + 24) * unit
            lost.append((f"{name}  not in view", position, colour))
            continue
        _tint(image, mask, box, colour, unit)
        labels.append((f"{name}  {score:.2f}", (int(box[0]), int(box[1])), colour))
    for text, corner, colour in labels + lost:  # last, so that no tint covers the labels
        _label(image, text, corner, colour, unit)
    return image


def _name(object_id: int, labels: Mapping[int, str]) -> str:
    """The id and label; the font has ASCII only, so accents are left out, and letters of other scripts."""
    decomposed = unicodedata.normalize("NFKD", labels.get(object_id, ""))
    drawn = decomposed.encode("ascii", "ignore").decode().strip()[:MAX_DRAWN]
    return f"{object_id} {drawn}".rstrip()


def _tint(image: UInt8Array, mask: BoolArray, box: Box4, colour: tuple[int, int, int], unit: int) -> None:
    x1, y1, x2, y2 = (int(value) for value in box)
    crop, inside = image[y1:y2, x1:x2], np.ascontiguousarray(mask[y1:y2, x1:x2], np.uint8)
    tinted = cv2.addWeighted(crop, 1 - OPACITY, np.full_like(crop, colour), OPACITY, 0)
    cv2.copyTo(tinted, inside, crop)
    outlines, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE, offset=(x1, y1))
    cv2.drawContours(image, outlines, -1, colour, unit, cv2.LINE_AA)


def _label(image: UInt8Array, text: str, corner: tuple[int, int], colour: tuple[int, int, int], unit: int) -> None:
    """Draw dark text on the object's colour with its lower left at `corner`, moved inside the image."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.5 * unit
    (width, height), base = cv2.getTextSize(text, font, scale, unit)
    pad = 3 * unit
    x = int(np.clip(corner[0], 0, max(0, image.shape[1] - width - 2 * pad)))
    y = int(np.clip(corner[1], height + base + 2 * pad, image.shape[0]))
    cv2.rectangle(image, (x, y - height - base - 2 * pad), (x + width + 2 * pad, y - unit), colour, -1)
    cv2.putText(image, text, (x + pad, y - base - pad), font, scale, (20, 20, 20), unit, cv2.LINE_AA)
