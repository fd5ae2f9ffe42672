"""A coarse grid first; what it is sure of needs no further clicks (Shu et al. 2025, TinySAM, section 3.3).

Counterpart: xinghaochen/TinySAM: tinysam/hierarchical_mask_generator.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samvideo.prompters.base import PUBLISHED, Embed, MaskFilter, MaskProposal, suppressed
from samvideo.prompters.grid import click_grid
from samvideo.prompters.regions import without_small_regions
from samvideo.types import BoolArray, UInt8Array, image_wh

COARSER = 4  # times fewer clicks along a side of the coarse grid
AROUND = (-1, 0, 1)


@dataclass(frozen=True)
class HierarchicalConfig:
    """Options, with the published defaults.

    Attributes:
        points: clicks along each side of the dense grid.
        keep: which masks.
        sure: logit above which a pixel of a coarse mask needs no click of the dense grid.
        box_overlap: IoU of the boxes of two masks that both stay.
        least_region: pixels of holes and islands that stay; 0 changes no mask.
        least_region_overlap: as `box_overlap`, if that is lower, for masks without small regions.
    """

    points: int = 32
    keep: MaskFilter = PUBLISHED
    sure: float = 8.5
    box_overlap: float = 0.7
    least_region: int = 0
    least_region_overlap: float = 0.7


class HierarchicalPrompter:
    """See the module; implements `samvideo.prompters.base.AutoPrompter`.

    Args:
        embed: encodes images.
        config: options.
    """

    def __init__(self, embed: Embed, config: HierarchicalConfig = HierarchicalConfig()) -> None:
        self._embed, self.config = embed, config

    def propose(self, rgb: UInt8Array) -> list[MaskProposal]:
        """See `AutoPrompter.propose`: by predicted IoU."""
        config, size_wh = self.config, image_wh(rgb)
        image = self._embed(rgb, (0, 0, *size_wh))
        coarse = click_grid(config.points // COARSER) * size_wh
        of_coarse, sure = image.union(coarse[:, None], _on(coarse), config.keep, config.sure)
        dense = dense_clicks(coarse, sure, config.points)
        of_dense = image.masks(dense[:, None], _on(dense), config.keep) if len(dense) else []
        both = [*of_dense, *of_coarse]
        kept = suppressed(both, [one.quality for one in both], config.box_overlap)
        overlap = max(config.box_overlap, config.least_region_overlap)
        return without_small_regions([one.proposal(size_wh) for one in kept], config.least_region, overlap)


def dense_clicks(coarse: NDArray[np.float64], sure: BoolArray, points: int) -> NDArray[np.float64]:
    """Return (N, 2) clicks around those of the coarse grid, in pixels, where the image is not `sure` (H, W)."""
    height, width = sure.shape
    clicks = [place for x, y in coarse.tolist() for place in _around(x, y, (width, height), points)]
    free = [(x, y) for x, y in clicks if not sure[int(y), int(x)]]
    shares = np.array(free).reshape(-1, 2) / (width, height)  # as published, which has them as shares
    return shares * (width, height)


def _around(x: float, y: float, size_wh: tuple[int, int], points: int) -> Iterator[tuple[float, float]]:
    """Yield the places of the dense grid that belong to one of the coarse grid, without that itself."""
    width, height = size_wh
    right, down = width // points, height // points
    for a in AROUND:
        yield from ((x + a * right, y + b * down) for b in AROUND if a or b)
    more_right, more_down = x + 2 * right < width, y + 2 * down < height
    if more_right:
        yield from ((x + 2 * right, y + b * down) for b in AROUND)
    if more_down:
        yield from ((x + a * right, y + 2 * down) for a in AROUND)
    if more_right and more_down:
        yield x + 2 * right, y + 2 * down


def _on(clicks: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.ones((len(clicks), 1), np.int64)
