"""Make a noisy map of evidence follow the picture's edges: a few steps of mean field on a sparse grid."""

from dataclasses import dataclass

import cv2
import numpy as np

from samvideo.types import FloatArray


@dataclass(frozen=True)
class SmoothingConfig:
    """Pairwise terms of the field.

    Attributes:
        steps: rounds of messages.
        strength: how strongly neighbours pull.
        contrast: distance in 8-bit Lab at which two neighbours stop pulling.
        reach: distances in pixels at which neighbours are taken, in eight directions each.
    """

    steps: int = 5
    strength: float = 1.0
    contrast: float = 8.0
    reach: tuple[int, ...] = (1, 3)


def neighbour_weights(lab: FloatArray, config: SmoothingConfig) -> list[tuple[int, int, FloatArray]]:
    """How strongly each pixel is tied to one (dy, dx) away: a (dy, dx, weight) for one of each pair of directions.

    Args:
        lab: float32 (h, w, 3).
        config: the field's settings.
    """
    height, width = lab.shape[:2]
    ties = []
    sharpness = np.float32(-1 / (2 * config.contrast**2))
    for step in config.reach:
        for dy, dx in ((0, step), (step, 0), (step, step), (step, -step)):
            if dy >= height or abs(dx) >= width:
                continue
            near, far = _pair(lab, dy, dx)
            change = near - far
            change *= change
            distance = change[..., 0] + change[..., 1] + change[..., 2]
            distance *= sharpness
            tie = cv2.exp(distance)
            tie *= np.float32(config.strength * (dy * dy + dx * dx) ** -0.25)
            ties.append((dy, dx, tie))
    return ties


def smooth(unary: FloatArray, ties: list[tuple[int, int, FloatArray]], steps: int) -> FloatArray:
    """Mean field: float32 (h, w) log-odds after `steps` rounds of messages between tied pixels."""
    logits = unary
    for _ in range(steps):
        belief = np.tanh(logits * np.float32(0.5))
        logits = unary.copy()
        for dy, dx, tie in ties:
            near, far = _pair(belief, dy, dx)
            to_near, to_far = _pair(logits, dy, dx)
            to_near += tie * far
            to_far += tie * near
    return logits


def _pair(picture: FloatArray, dy: int, dx: int) -> tuple[FloatArray, FloatArray]:
    """Two views of a picture in which the second holds what lies (dy, dx) away from the first; dy >= 0."""
    height, width = picture.shape[:2]
    left, right = max(0, -dx), width - max(0, dx)
    return picture[: height - dy, left:right], picture[dy:, left + dx : right + dx]
