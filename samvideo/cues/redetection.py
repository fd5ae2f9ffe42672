"""Presence and re-detection of an object by its colours."""

from dataclasses import dataclass

import cv2
import numpy as np

from samvideo.types import BoolArray, FloatArray, UInt8Array


@dataclass(frozen=True)
class PresenceConfig:
    """When an object counts as lost and as found. Likeness is a Bhattacharyya coefficient in [0, 1].

    Attributes:
        lose: it is lost when the likeness of its mask is below. Tracked objects of the training set of DAVIS 2016
            stay above 0.79; masks in scenes without the object are below 0.77.
        find: it is found where the likeness of a region is above.
        smallest, largest: bounds of a found region's area, in units of the object's usual area.
        cut: mean reliability of the flow around the object below which a scene cut is assumed.
        speed: image widths per frame that a lost object may move, unless there was a scene cut.
        rate: at which the reference colours adapt to each frame.
    """

    lose: float = 0.74
    find: float = 0.88
    smallest: float = 0.2
    largest: float = 3.0
    cut: float = 0.3
    speed: float = 0.04
    rate: float = 0.05


_LEVELS = (0.0, 1.0, 2.0)  # log-odds; a higher one separates the object from similar surroundings


class Likeness:
    """Coarse colour histograms of an object: on the prompted frame, and on recent ones."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._shown = self._recent = np.zeros(512, np.float32)

    def learn(self, levels: UInt8Array, inside: BoolArray) -> None:
        """Initialise from a prompted mask; `levels` uint8 (h, w, 3) of `View`, `inside` (h, w)."""
        self._shown = self._recent = _colours(levels, inside)

    def follow(self, levels: UInt8Array, inside: BoolArray) -> None:
        """Adapt to a tracked mask."""
        self._recent = (1 - self._rate) * self._recent + self._rate * _colours(levels, inside)

    def of(self, levels: UInt8Array, inside: BoolArray) -> float:
        """Return the likeness of the pixels in a mask, in [0, 1]; 0 for an empty mask."""
        colours = np.sqrt(_colours(levels, inside))
        return float(max(colours @ np.sqrt(self._shown), colours @ np.sqrt(self._recent)))


def _colours(levels: UInt8Array, inside: BoolArray) -> FloatArray:
    cells = (levels[inside] >> 5).astype(np.int32)
    counts = np.bincount((cells[:, 0] * 8 + cells[:, 1]) * 8 + cells[:, 2], minlength=512).astype(np.float32)
    density: FloatArray = counts / max(float(counts.sum()), 1.0)
    return density


def find_again(
    odds: FloatArray, levels: UInt8Array, likeness: Likeness, area: float, within: BoolArray, config: PresenceConfig
) -> BoolArray | None:
    """Find the region of an image that is most like a lost object; None if none is similar enough.

    Args:
        odds: float32 (h, w) log-odds from appearance; regions are connected components above thresholds.
        levels: uint8 (h, w, 3) of `View`.
        likeness: of the object.
        area: pixels that the object usually has.
        within: bool (h, w), where the object may be.
        config: thresholds.
    """
    side = int(np.clip(0.15 * np.sqrt(area), 3, 15)) | 1
    smooth = cv2.blur(odds, (side, side))
    best, found = config.find, None
    for level in _LEVELS:
        count, parts, stats, _ = cv2.connectedComponentsWithStats((smooth > level).astype(np.uint8))
        for part in range(1, count):
            if config.smallest * area <= stats[part, cv2.CC_STAT_AREA] <= config.largest * area:
                inside = parts == part
                alike = likeness.of(levels, inside)
                if alike > best:
                    best, found = alike, inside
    return found if found is not None and (found & within).any() else None
