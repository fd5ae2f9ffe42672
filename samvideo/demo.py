"""A synthetic clip: textured shapes that move, rotate and occlude each other."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from samvideo.types import BoolArray, UInt8Array


@dataclass(frozen=True)
class Actor:
    """One shape of the clip; lengths in units of the frame's height."""

    sides: int  # 0 for a disc
    radius: float  # of the circumscribed circle
    path: tuple[float, float, float, float]  # centre on the first and last frame, x in units of the width
    sway: float  # amplitude of a vertical sine wave along the path
    colours: tuple[tuple[int, int, int], tuple[int, int, int]]  # of the stripes
    spin: float  # rotations over the clip
    enters: float = 0.0  # share of the clip before it is there


ACTORS = (  # later ones occlude earlier ones
    Actor(0, 0.17, (0.16, 0.45, 0.80, 0.50), 0.10, ((60, 110, 190), (190, 215, 240)), 0.6),
    Actor(4, 0.16, (0.84, 0.68, 0.20, 0.52), -0.06, ((215, 150, 40), (250, 225, 150)), 0.4),
    Actor(3, 0.13, (0.50, 0.20, 0.56, 0.82), 0.0, ((150, 60, 170), (235, 150, 220)), -0.5),
    Actor(5, 0.09, (0.10, 0.84, 0.24, 0.90), 0.02, ((225, 60, 50), (250, 190, 170)), 0.3),
    Actor(0, 0.08, (0.90, 0.12, 0.76, 0.10), 0.03, ((30, 30, 40), (110, 110, 130)), 0.5),
    Actor(4, 0.08, (0.38, 0.90, 0.30, 0.86), 0.0, ((245, 245, 235), (180, 190, 200)), -0.3),
    Actor(0, 0.10, (1.05, 0.80, 0.86, 0.76), 0.02, ((30, 150, 160), (160, 230, 220)), 0.4, 0.3),
    Actor(3, 0.11, (-0.08, 0.16, 0.12, 0.14), 0.02, ((240, 210, 60), (130, 100, 20)), 0.4, 0.5),
)


def demo_frames(
    count: int = 90, size_wh: tuple[int, int] = (854, 480), objects: int = 3
) -> Iterator[tuple[UInt8Array, BoolArray]]:
    """Yield (rgb, masks): uint8 (H, W, 3) and the visible part of each object, bool (objects, H, W).

    Of up to eight objects, the last two enter later.
    """
    ground = _ground((size_wh[0] + 120, size_wh[1] + 60))
    for index in range(count):
        time = index / max(1, count - 1)
        left, top = round(120 * time), round(60 * time)
        image = ground[top : top + size_wh[1], left : left + size_wh[0]].copy()
        masks = np.zeros((objects, size_wh[1], size_wh[0]), bool)
        for row, actor in enumerate(ACTORS[:objects]):
            if time < actor.enters:
                continue
            shape = _draw(actor, image, (time - actor.enters) / (1 - actor.enters))
            masks[:row] &= ~shape
            masks[row] = shape
        noise = np.random.default_rng(index).integers(-5, 6, image.shape)
        yield np.clip(image + noise, 0, 255).astype(np.uint8), masks


def _ground(size_wh: tuple[int, int]) -> UInt8Array:
    noise = np.random.default_rng(5).normal(size=(size_wh[1], size_wh[0], 3))
    coarse, fine = (cv2.GaussianBlur(noise, (0, 0), sigma) * sigma for sigma in (28.0, 4.0))
    image = np.array((92, 118, 84)) + 46 * coarse + 16 * fine
    return np.clip(image, 0, 255).astype(np.uint8)


def _draw(actor: Actor, image: UInt8Array, time: float) -> BoolArray:
    """Draw the actor at `time` in [0, 1] and return its mask."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = actor.path
    x = (x0 + (x1 - x0) * time) * width
    y = (y0 + (y1 - y0) * time + actor.sway * np.sin(2 * np.pi * time)) * height
    radius, turn = actor.radius * height, 2 * np.pi * actor.spin * time
    corners = actor.sides or 72
    angles = turn + 2 * np.pi * np.arange(corners) / corners
    outline = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1)
    shape = np.zeros((height, width), np.uint8)
    cv2.fillPoly(shape, [np.round(outline * 16).astype(np.int32)], 1, shift=4)
    rows, columns = np.nonzero(shape)
    along = (columns - x) * np.cos(turn) + (rows - y) * np.sin(turn)
    stripe = (np.floor(along / (0.28 * radius)) % 2).astype(int)
    image[rows, columns] = np.array(actor.colours, np.uint8)[stripe]
    return shape.astype(bool)
