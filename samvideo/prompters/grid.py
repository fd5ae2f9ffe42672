"""A grid of clicks over the image and over crops of it (Kirillov et al. 2023, Segment Anything, appendix D.4).

Counterpart: facebookresearch/segment-anything: segment_anything/automatic_mask_generator.py.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samvideo.prompters.base import PUBLISHED, Candidate, Embed, MaskFilter, MaskProposal, suppressed
from samvideo.prompters.regions import without_small_regions
from samvideo.types import UInt8Array, image_wh

EDGE = 20  # pixels from the edge of a crop within which a mask is taken to be cut off by it
Crop = tuple[int, int, int, int]


@dataclass(frozen=True)
class GridConfig:
    """Options of SAM's automatic mask generator, with its defaults.

    Attributes:
        points: clicks along each side of the image.
        keep: which masks.
        box_overlap: IoU of the boxes of two masks of a crop that both stay.
        crop_layers: layers of crops, beside the whole image: layer i has 2^i along each side.
        crop_overlap: share of the shorter side of the image by which crops of the first layer overlap.
        fewer_points: each layer of crops has so many times fewer clicks along each side than the one before.
        crop_box_overlap: IoU of the boxes of two masks of different crops that both stay.
        least_region: pixels of holes and islands that stay; 0 changes no mask.
    """

    points: int = 32
    keep: MaskFilter = PUBLISHED
    box_overlap: float = 0.7
    crop_layers: int = 0
    crop_overlap: float = 512 / 1500
    fewer_points: int = 1
    crop_box_overlap: float = 0.7
    least_region: int = 0


class GridPrompter:
    """See the module; implements `samvideo.prompters.base.AutoPrompter`.

    Args:
        embed: encodes parts of images.
        config: options.
    """

    def __init__(self, embed: Embed, config: GridConfig = GridConfig()) -> None:
        self._embed, self.config = embed, config

    def propose(self, rgb: UInt8Array) -> list[MaskProposal]:
        """See `AutoPrompter.propose`: by predicted IoU; with crops, those of smaller crops first."""
        config, size_wh = self.config, image_wh(rgb)
        found: list[Candidate] = []
        for crop, layer in crops(size_wh, config.crop_layers, config.crop_overlap):
            found += self._in_crop(rgb, crop, config.points // config.fewer_points**layer)
        if config.crop_layers:
            found = suppressed(found, [1 / _area(one.crop) for one in found], config.crop_box_overlap)
        overlap = max(config.box_overlap, config.crop_box_overlap)
        return without_small_regions([one.proposal(size_wh) for one in found], config.least_region, overlap)

    def _in_crop(self, rgb: UInt8Array, crop: Crop, per_side: int) -> list[Candidate]:
        """Find masks of one crop."""
        left, top, right, bottom = crop
        clicks = click_grid(per_side) * (right - left, bottom - top)
        found = self._embed(rgb, crop).masks(clicks[:, None], np.ones((len(clicks), 1), np.int64), self.config.keep)
        found = [one for one in found if not cut_off(one, image_wh(rgb))]
        return suppressed(found, [one.quality for one in found], self.config.box_overlap)


def click_grid(per_side: int) -> NDArray[np.float64]:
    """Return (N, 2) x and y in shares of the sides, row by row."""
    along = (np.arange(per_side) + 0.5) / per_side
    x, y = np.meshgrid(along, along)
    return np.stack([x, y], 2).reshape(-1, 2)


def crops(size_wh: tuple[int, int], layers: int, overlap: float) -> Iterator[tuple[Crop, int]]:
    """Yield the whole image, then the crops of each layer, column by column, with the layer's number."""
    width, height = size_wh
    yield (0, 0, width, height), 0
    for layer in range(1, layers + 1):
        count = 2**layer
        shared = int(overlap * min(size_wh) * 2 / count)
        sides = [math.ceil((shared * (count - 1) + side) / count) for side in size_wh]
        starts = [[int((side - shared) * k) for k in range(count)] for side in sides]
        for x in (x for x in starts[0] if x < width):  # a single row or column of pixels cannot be cut
            for y in (y for y in starts[1] if y < height):
                yield (x, y, min(x + sides[0], width), min(y + sides[1], height)), layer


def cut_off(found: Candidate, size_wh: tuple[int, int]) -> bool:
    """Whether a mask reaches an edge of its crop that is not an edge of the image."""
    box = np.array(found.box_in_image)
    at_crop = np.abs(box - found.crop) <= EDGE
    at_image = np.abs(box - np.array((0, 0, *size_wh))) <= EDGE
    return bool((at_crop & ~at_image).any())


def _area(crop: Crop) -> float:
    x1, y1, x2, y2 = crop
    return (x2 - x1) * (y2 - y1)
