"""Masks of `flow` on synthetic clips: python tests/trackers/golden.py writes golden.npz again."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np

from samvideo.trackers.flow import FlowTracker
from samvideo.trackers.schedule import PromptSchedule, propagate
from samvideo.types import Box, Frame, Mask, Points, Prompt
from tests.scenes import BLUE, RED, Shape, scene

FILE = Path(__file__).with_name("golden.npz")
KINDS = ("mask", "box", "clicks")


def clips() -> dict[str, tuple[list[Frame], np.ndarray]]:
    """Two discs that cross, one that leaves and returns, one behind another."""

    def leaving(index: int) -> tuple[float, float] | None:
        return None if 8 <= index < 13 else (100 + 8.0 * index, 60) if index < 8 else (40, 40 + 2.0 * index)

    right, left = Shape(lambda i: (40 + 4.0 * i, 50), 18, RED), Shape(lambda i: (125 - 4.0 * i, 62), 15, BLUE)
    still, passing = Shape(lambda i: (80, 60), 12, RED), Shape(lambda i: (10 + 8.0 * i, 60), 24, BLUE)
    return {
        "cross": scene(14, right, left),
        "leave": scene(18, Shape(leaving, 16, RED)),
        "pass": scene(16, still, passing),
    }


def prompts(kind: str, truth: np.ndarray) -> list[Prompt]:
    """Masks of all objects on the first frame, or the box of one, or a click on it and one off it."""
    if kind == "mask":
        return [Mask(mask, object_id=row + 1) for row, mask in enumerate(truth[0])]
    ys, xs = np.nonzero(truth[0, 0])
    if kind == "box":
        return [Box((int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1), object_id=1)]
    return [Points([(float(xs.mean()), float(ys.mean())), (3.0, 3.0)], [1, 0], object_id=1)]


def masks(clip: str, kind: str) -> np.ndarray:
    """bool (T, K, H, W)."""
    frames, truth = clips()[clip]
    steps = propagate(frames, FlowTracker(), PromptSchedule(prompts(kind, truth)))
    return np.stack([result.masks for _, result in steps])


def cases() -> Iterator[tuple[str, str]]:
    yield from product(clips(), KINDS)


if __name__ == "__main__":
    np.savez_compressed(FILE, **{"/".join(case): np.packbits(masks(*case)) for case in cases()})
