"""Measurements of masks: size, position, direction, tip, and the distance between two of them."""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from samvideo.io.rle import IntArray, Runs, spread

Floats = NDArray[np.float64]
Int32s = NDArray[np.int32]
ELONGATED = 2.0  # least ratio of length to width of a mask that has a direction
PAIRS_AT_ONCE = 2_000_000  # of runs; bounds the memory of `mask_distances`


@dataclass(frozen=True, eq=False)
class MaskMeasurements:
    """Measurements of N masks; lengths in pixels, NaN for an empty mask.

    Attributes:
        area: float (N,), number of pixels.
        centroid: (N, 2), mean of the pixel centres.
        box: (N, 4), x1, y1, x2, y2.
        axis: (N, 2), unit vector along the largest extent, of either sign.
        extent: (N, 2), standard deviations along and across the axis.
        entry: (N, 2), the centre of the mask's pixels on that border of the frame where it has the most of them;
            NaN if it has none on any border.
    """

    area: Floats
    centroid: Floats
    box: Floats
    axis: Floats
    extent: Floats
    entry: Floats

    def take(self, rows: IntArray) -> "MaskMeasurements":
        """Return the measurements of some masks."""
        return MaskMeasurements(*(getattr(self, field.name)[rows] for field in fields(self)))


@np.errstate(invalid="ignore", divide="ignore")
def measure(runs: Runs) -> MaskMeasurements:
    """Measure every mask."""
    count, which = runs.count, runs.mask
    length = (runs.bottom - runs.top).astype(float)
    x, y = runs.x + 0.5, (runs.top + runs.bottom) / 2
    area: Floats = np.bincount(which, length, count).astype(float)
    centroid = np.stack([np.bincount(which, length * place, count) / area for place in (x, y)], 1)
    dx, dy = x - centroid[which, 0], y - centroid[which, 1]
    spread_y = dy * dy + (length * length - 1) / 12
    xx, yy, xy = (np.bincount(which, length * m, count) / area for m in (dx * dx, spread_y, dx * dy))
    angle = np.arctan2(2 * xy, xx - yy) / 2
    middle, half = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    extent = np.sqrt(np.maximum(np.stack([middle + half, middle - half], 1), 0))
    axis = np.stack([np.cos(angle), np.sin(angle)], 1)
    return MaskMeasurements(area, centroid, _boxes(runs), axis, extent, _entries(runs))


def _starts(mask: IntArray) -> IntArray:
    """Return the first row of each mask."""
    return np.flatnonzero(np.diff(mask, prepend=-1))


def _boxes(runs: Runs) -> Floats:
    box = np.full((runs.count, 4), np.nan)
    if len(runs.mask):
        masks, *sides = _Segments.of(runs).boxes()
        box[masks] = np.stack(sides, 1)
    return box


def _entries(runs: Runs) -> Floats:
    """Return the entry of each mask, see `MaskMeasurements`."""
    width, height = runs.size_wh
    x, length = runs.x + 0.5, (runs.bottom - runs.top).astype(float)
    middle, one = (runs.top + runs.bottom) / 2, np.ones(len(x))
    sides = (  # the runs on each side, their pixels there, the mean position of these
        (runs.x == 0, length, 0.5, middle),
        (runs.x == width - 1, length, width - 0.5, middle),
        (runs.top == 0, one, x, 0.5),
        (runs.bottom == height, one, x, height - 0.5),
    )
    pixels, sums = [], []
    for on, weight, side_x, side_y in sides:
        pixels.append(np.bincount(runs.mask[on], weight[on], runs.count))
        places = [np.broadcast_to(place, len(x))[on] for place in (side_x, side_y)]
        sums.append([np.bincount(runs.mask[on], weight[on] * place, runs.count) for place in places])
    side = np.argmax(pixels, 0)
    rows = np.arange(runs.count)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (np.array(sums)[side, :, rows] / np.array(pixels)[side, rows][:, None]).reshape(-1, 2)


def track_entries(masks: MaskMeasurements, size_wh: tuple[int, int], known: Floats) -> tuple[Floats, Floats]:
    """Estimate where the object of these successive masks enters the view.

    The entry of a mask that touches no border is that of the mask before it. If none is known yet, an elongated
    mask enters at that end of its axis which is farther from the centre of the frame: the view of an endoscope is
    round, and masks end at its rim.

    Args:
        masks: of one object.
        size_wh: of the frames.
        known: (2,), the entry before the first mask, NaN if unknown.

    Returns:
        The entries (N, 2), and the entry (2,) that is known after the last mask.
    """
    given = ~np.isnan(masks.entry[:, 0])
    latest = np.maximum.accumulate(np.where(given, np.arange(len(given)), -1))
    entry = np.where(latest[:, None] >= 0, masks.entry[latest], known)
    with np.errstate(invalid="ignore", divide="ignore"):
        lost = np.isnan(entry[:, 0]) & (masks.extent[:, 0] >= ELONGATED * masks.extent[:, 1])
    reach = 2 * masks.extent[lost, :1] * masks.axis[lost]
    ends = np.stack([masks.centroid[lost] - reach, masks.centroid[lost] + reach])
    far = np.linalg.norm(ends - np.asarray(size_wh) / 2, axis=2)
    entry[lost] = ends[np.argmax(far, 0), np.arange(len(reach))]
    after = masks.entry[latest[-1]] if len(latest) and latest[-1] >= 0 else known
    return entry, after


def mask_tips(runs: Runs, masks: MaskMeasurements, entry: Floats) -> Floats:
    """Return the tip (N, 2) of each mask: the pixel centre that is farthest along the axis from the entry.

    Of several such pixels it is the mean. NaN if the mask is empty or its entry (N, 2) is unknown.
    """
    sign = np.sign(((masks.centroid - entry) * masks.axis).sum(1))
    along = masks.axis * np.where(sign == 0, np.nan, sign)[:, None]
    tip = np.full((runs.count, 2), np.nan)
    starts = _starts(runs.mask)
    if not len(starts):
        return tip
    x = np.concatenate([runs.x, runs.x]) + 0.5
    y = np.concatenate([runs.top + 0.5, runs.bottom - 0.5])
    which = np.concatenate([runs.mask, runs.mask])
    reach = x * along[which, 0] + y * along[which, 1]
    half = len(runs.x)
    best = np.full(runs.count, np.nan)
    best[runs.mask[starts]] = np.maximum.reduceat(np.maximum(reach[:half], reach[half:]), starts)
    on = reach >= best[which] - 1e-6
    points = np.bincount(which[on], minlength=runs.count)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([np.bincount(which[on], place[on], runs.count) / points for place in (x, y)], 1)


def box_distances(a: Floats, b: Floats) -> Floats:
    """Return the distances (N,) between boxes, both (N, 4); 0 if they touch or overlap."""
    across = np.maximum(np.maximum(b[:, :2] - a[:, 2:], a[:, :2] - b[:, 2:]), 0)
    return np.hypot(across[:, 0], across[:, 1])


def mask_distances(a: Runs, b: Runs) -> Floats:
    """Return the distance (N,) between the nearest pixels of mask k of `a` and mask k of `b`, for all k.

    Pixels are squares: 0 if two masks overlap or touch, even at a corner; NaN if one is empty.
    """
    nearest = np.full(a.count, np.nan)
    both = np.intersect1d(a.mask, b.mask)
    if len(both):
        nearest[both] = np.sqrt(_minimum_squared_distances(_Segments.of(a.take(both)), _Segments.of(b.take(both))))
    return nearest


class _Segments(NamedTuple):
    """Rectangles of masks, at least one for each mask: runs, or boxes. Coordinates are int32 for speed."""

    mask: IntArray
    x1: Int32s
    y1: Int32s
    x2: Int32s
    y2: Int32s

    @classmethod
    def of(cls, runs: Runs) -> "_Segments":
        columns = (column.astype(np.int32) for column in (runs.x, runs.top, runs.x + 1, runs.bottom))
        return cls(runs.mask, *columns)

    def at(self, rows: IntArray | NDArray[np.bool_]) -> "_Segments":
        return _Segments(self.mask[rows], self.x1[rows], self.y1[rows], self.x2[rows], self.y2[rows])

    def boxes(self) -> "_Segments":
        """Return the bounding box of each mask."""
        starts = _starts(self.mask)
        low = (np.minimum.reduceat(column, starts) for column in (self.x1, self.y1))
        high = (np.maximum.reduceat(column, starts) for column in (self.x2, self.y2))
        return _Segments(self.mask[starts], *low, *high)

    def squared_distances(self, other: "_Segments") -> Int32s:
        """Return the squared distance to the other rectangles, row by row."""
        across = np.maximum(np.maximum(other.x1 - self.x2, self.x1 - other.x2), 0)
        down = np.maximum(np.maximum(other.y1 - self.y2, self.y1 - other.y2), 0)
        return across * across + down * down

    def nearest_to(self, other: "_Segments") -> tuple[IntArray, Int32s]:
        """Return for each mask the row nearest to its only rectangle in `other`, and the squared distance."""
        squares = self.squared_distances(other.at(self.mask))
        least = np.minimum.reduceat(squares, _starts(self.mask))
        rows = np.flatnonzero(squares == least[self.mask])
        return rows[_starts(self.mask[rows])], least


def _minimum_squared_distances(a: _Segments, b: _Segments) -> Int32s:
    """Return the smallest squared distance between the runs of `a` and `b` for each mask."""
    # Alternating between nearest runs gives an upper bound that is nearly always exact. Only runs that are closer
    # than that to the box of the other mask can improve it.
    rows, _ = b.nearest_to(a.boxes())
    for _ in range(3):
        ends = b.at(rows)
        nearest, _ = a.nearest_to(ends)
        rows, bound = b.nearest_to(a.at(nearest))
    for _ in range(2):
        a = a.at(_may_be_nearer(a, b, bound))
        b = b.at(_may_be_nearer(b, a, bound))
    return _all_pairs(a, b, bound)


def _may_be_nearer(own: _Segments, other: _Segments, bound: Int32s) -> NDArray[np.bool_]:
    """Return which runs may be nearer to the other mask than the bound; none if no run of it is left."""
    if not len(other.mask):
        return np.zeros(len(own.mask), bool)
    boxes = other.boxes()
    box_of_mask = np.full(len(bound), -1)
    box_of_mask[boxes.mask] = np.arange(len(boxes.mask))
    rows = box_of_mask[own.mask]
    return (rows >= 0) & (own.squared_distances(boxes.at(rows)) < bound[own.mask])


def _all_pairs(a: _Segments, b: _Segments, bound: Int32s) -> Int32s:
    """Return the smallest squared distance over all pairs of runs, at most the bound."""
    least = bound.copy()
    first = np.searchsorted(b.mask, a.mask, "left")
    partners = np.searchsorted(b.mask, a.mask, "right") - first
    done = np.cumsum(partners)
    for begin in range(0, int(done[-1]) if len(done) else 0, PAIRS_AT_ONCE):
        rows = slice(*np.searchsorted(done, (begin, begin + PAIRS_AT_ONCE), "right"))
        left = a.at(np.repeat(np.arange(len(done))[rows], partners[rows]))
        right = b.at(spread(first[rows], partners[rows]))
        np.minimum.at(least, left.mask, left.squared_distances(right))
    return least
