"""Clips whose truth is known: textured shapes over a drifting ground, which may leave, return and hide."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from samvideo.types import Frame

SIZE = 160, 120
Place = tuple[float, float] | None  # centre (x, y), None while out of view


@dataclass(frozen=True)
class Shape:
    """A striped disc."""

    place: Callable[[int], Place]
    radius: int
    colours: tuple[tuple[int, int, int], tuple[int, int, int]]


RED = ((220, 60, 50), (250, 150, 120))
BLUE = ((40, 70, 220), (130, 170, 250))


def scene(count: int, *shapes: Shape) -> tuple[list[Frame], np.ndarray]:
    """Frames, and the visible part of each shape: bool (count, K, H, W); later shapes pass in front."""
    width, height = SIZE
    noise = np.random.default_rng(3).normal(size=(height + 60, width + 60, 3))
    ground = np.clip((90, 110, 80) + 600 * cv2.GaussianBlur(noise, (0, 0), 6), 0, 255).astype(np.uint8)
    frames, truth = [], np.zeros((count, len(shapes), height, width), bool)
    y, x = np.mgrid[:height, :width] + 0.5
    for index in range(count):
        shift = index % 40
        picture = ground[shift // 2 : shift // 2 + height, shift : shift + width].copy()
        for row, shape in enumerate(shapes):
            place = shape.place(index)
            if place is None:
                continue
            inside = (x - place[0]) ** 2 + (y - place[1]) ** 2 < shape.radius**2
            stripe = ((x - place[0]) // 6 % 2).astype(int)
            picture[inside] = np.array(shape.colours, np.uint8)[stripe][inside]
            truth[index, :row] &= ~inside
            truth[index, row] = inside
        frames.append(Frame(index, index / 25, picture))
    return frames, truth


def overlap(mask: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union; 1 for two empty masks."""
    either = (mask | truth).sum()
    return float((mask & truth).sum() / either) if either else 1.0
