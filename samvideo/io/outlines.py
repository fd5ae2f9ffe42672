"""Masks as polygons along pixel edges, for formats without masks."""

import cv2
import numpy as np
from numpy.typing import NDArray

from samvideo.types import BoolArray

Corners = NDArray[np.int64]
_RIGHT, _DOWN, _LEFT, _UP = (1, 0), (0, 1), (-1, 0), (0, -1)


def outlines(mask_hw: BoolArray) -> tuple[list[Corners], list[Corners]]:
    """Return the outer outlines and those of holes, each (N, 2) pixel corners (x, y) without collinear ones.

    Outer ones run clockwise on the screen. Connectivity is 4: pixels that touch at a corner are separate.
    """
    filled = np.pad(mask_hw, 1)
    inner = filled[1:-1, 1:-1]
    turns: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for step, neighbour, (dx, dy) in (  # the side of a pixel, traversed with the pixel on the right
        (_RIGHT, filled[:-2, 1:-1], (0, 0)),
        (_DOWN, filled[1:-1, 2:], (1, 0)),
        (_LEFT, filled[2:, 1:-1], (1, 1)),
        (_UP, filled[1:-1, :-2], (0, 1)),
    ):
        for y, x in np.argwhere(inner & ~neighbour).tolist():
            turns.setdefault((x + dx, y + dy), []).append(step)
    polygons = []
    while turns:
        polygons.append(_walk(turns))
    return [p for p in polygons if signed_area(p) > 0], [p for p in polygons if signed_area(p) < 0]


def _walk(turns: dict[tuple[int, int], list[tuple[int, int]]]) -> Corners:
    """Remove one closed polygon from `turns`."""
    start = place = next(iter(turns))
    step = first = turns[place][0]
    corners: list[tuple[int, int]] = []
    while True:
        ways = turns[place]
        # Of two continuations, the right one stays at the same pixel.
        right = (-step[1], step[0])
        chosen = right if len(ways) > 1 and right in ways else ways[0]
        if place == start and not corners:
            chosen = first
        ways.remove(chosen)
        if not ways:
            del turns[place]
        if chosen != step or not corners:
            corners.append(place)
        step = chosen
        place = place[0] + step[0], place[1] + step[1]
        if place == start and (place not in turns or len(turns[place]) < 2):
            break
    if step == first and len(corners) > 4:
        corners = corners[1:]
    return np.array(corners, np.int64)


def signed_area(polygon: Corners) -> float:
    """Return the area in pixels, positive if the corners run clockwise on the screen."""
    x, y = polygon.T.astype(float)
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def simplified(polygon: Corners, tolerance: float) -> NDArray[np.float64]:
    """Reduce corners, moving the outline by at most `tolerance` pixels; (M, 2) (Douglas and Peucker 1973)."""
    fewer = cv2.approxPolyDP(polygon.astype(np.float32)[:, None], tolerance, True)[:, 0]
    return np.asarray(fewer if len(fewer) >= 3 else polygon, np.float64)
