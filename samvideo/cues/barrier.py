"""Minimum barrier distance (Strand et al., CVIU 2013): the range of colours along the best path from seeds."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from samvideo.types import BoolArray, UInt8Array

FAR = 60_000  # more than any barrier
_STEPS = (slice(None), slice(None)), (slice(0, -1), slice(1, None)), (slice(1, None), slice(0, -1))


def barrier(colours: UInt8Array, seeds: BoolArray, rounds: int = 2) -> NDArray[np.uint16]:
    """Compute the smallest range of colours along any path from a seed.

    Unlike the length of a path, it does not grow within texture. Approximated by
    sweeps in four directions (Zhang et al., "Minimum Barrier Salient Object Detection at 80 FPS", ICCV 2015).

    Args:
        colours: uint8 (B, 3, H, W).
        seeds: bool (B, H, W), where paths start.
        rounds: of four sweeps each; paths with more turns are missed.

    Returns:
        uint16 (B, H, W): ranges summed over the channels; 0 at the seeds, `FAR` everywhere if there are none.
    """
    colours = np.ascontiguousarray(colours.transpose(2, 1, 3, 0))  # rows first and the batch last, for speed
    best = np.where(seeds.transpose(1, 2, 0), np.uint16(0), np.uint16(FAR))
    highest, lowest = colours.copy(), colours.copy()
    for _ in range(rounds):
        for aside in (False, True):
            planes: list[NDArray[Any]] = [colours, best, highest, lowest]
            planes = [a.swapaxes(0, -2) if aside else a for a in planes]
            _sweep(*planes)
            _sweep(*(a[::-1] for a in planes))
    return best.transpose(2, 0, 1)


def _sweep(colours: UInt8Array, best: NDArray[np.uint16], highest: UInt8Array, lowest: UInt8Array) -> None:
    """Extend the best paths from each row to the next, straight and diagonally, in place.

    Args:
        colours: (H, 3, W, B).
        best: (H, W, B), barriers of the paths.
        highest, lowest: (H, 3, W, B), colours along them.
    """
    for y in range(1, len(best)):
        for old, new in _STEPS:
            here = colours[y][:, new]
            high, low = np.maximum(highest[y - 1][:, old], here), np.minimum(lowest[y - 1][:, old], here)
            cost = np.maximum((high - low).sum(0, dtype=np.uint16), best[y - 1][old])
            better = cost < best[y][new]
            np.copyto(best[y][new], cost, where=better)
            np.copyto(highest[y][:, new], high, where=better)
            np.copyto(lowest[y][:, new], low, where=better)
