"""Align noisy log-odds with image edges by a few mean-field steps on a sparse grid."""

from dataclasses import dataclass

import cv2
import numpy as np

from samvideo.types import FloatArray


@dataclass(frozen=True)
class SmoothingConfig:
    """Pairwise terms of the field.

    Attributes:
        steps: rounds of messages.
        strength: of the pairwise terms.
        contrast: distance in 8-bit Lab at which the influence of a neighbour vanishes.
        reach: distances in pixels of the neighbours, in eight directions each.
    """

    steps: int = 5
    strength: float = 1.0
    contrast: float = 8.0
    reach: tuple[int, ...] = (1, 3)


def neighbour_weights(lab: FloatArray, config: SmoothingConfig) -> list[tuple[int, int, FloatArray]]:
    """Compute the weights between each pixel and its neighbour at (dy, dx), for one of each pair of directions.

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
    """Run `steps` rounds of mean-field messages between neighbours; returns log-odds float32 (h, w)."""
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


def _pair(image: FloatArray, dy: int, dx: int) -> tuple[FloatArray, FloatArray]:
    """Return two views of an image, the second one shifted by (dy, dx) from the first; dy >= 0."""
    height, width = image.shape[:2]
    left, right = max(0, -dx), width - max(0, dx)
    return image[: height - dy, left:right], image[dy:, left + dx : right + dx]
