"""What is measured of each mask: size, place, direction, tip, and the gap between two of them."""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from samvideo.io.rle import IntArray, Runs, spread

Floats = NDArray[np.float64]
Int32s = NDArray[np.int32]
ELONGATED = 2.0  # length over width from which a mask that meets no border has a direction at all
PAIRS_AT_ONCE = 2_000_000  # of runs; bounds the memory of `gaps`


@dataclass(frozen=True, eq=False)
class Shapes:
    """N masks, measured; lengths in pixels, NaN where a mask has no pixel.

    Attributes:
        area: float (N,), number of pixels.
        centroid: (N, 2), mean of the pixel centres.
        box: (N, 4), x1, y1, x2, y2.
        axis: (N, 2), unit vector along the greatest extent, of either sign.
        extent: (N, 2), standard deviations along and across the axis.
        entry: (N, 2), the middle of the mask's pixels on the border of the frame that it meets on the longest
            stretch; NaN where it meets none.
    """

    area: Floats
    centroid: Floats
    box: Floats
    axis: Floats
    extent: Floats
    entry: Floats

    def take(self, rows: IntArray) -> "Shapes":
        """Some of them."""
        return Shapes(*(getattr(self, field.name)[rows] for field in fields(self)))


def measure(runs: Runs) -> Shapes:
    """Measure every mask."""
    count, which = runs.count, runs.mask
    length = (runs.bottom - runs.top).astype(float)
    x, y = runs.x + 0.5, (runs.top + runs.bottom) / 2
    area: Floats = np.bincount(which, length, count).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        centroid = np.stack([np.bincount(which, length * place, count) / area for place in (x, y)], 1)
    dx, dy = x - centroid[which, 0], y - centroid[which, 1]
    spread_y = dy * dy + (length * length - 1) / 12
    with np.errstate(invalid="ignore", divide="ignore"):
        xx, yy, xy = (np.bincount(which, length * m, count) / area for m in (dx * dx, spread_y, dx * dy))
    angle = np.arctan2(2 * xy, xx - yy) / 2
    middle, half = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    extent = np.sqrt(np.maximum(np.stack([middle + half, middle - half], 1), 0))
    axis = np.stack([np.cos(angle), np.sin(angle)], 1)
    return Shapes(area, centroid, _boxes(runs), axis, extent, _entries(runs))


def _filled(runs: Runs) -> tuple[IntArray, IntArray]:
    """The masks that have pixels, and the first run of each."""
    filled = np.flatnonzero(np.bincount(runs.mask, minlength=runs.count))
    return filled, np.searchsorted(runs.mask, filled)


def _boxes(runs: Runs) -> Floats:
    box = np.full((runs.count, 4), np.nan)
    filled, starts = _filled(runs)
    if len(filled):
        box[filled, 0] = runs.x[starts]
        box[filled, 1] = np.minimum.reduceat(runs.top, starts)
        box[filled, 2] = runs.x[np.append(starts[1:], len(runs.x)) - 1] + 1
        box[filled, 3] = np.maximum.reduceat(runs.bottom, starts)
    return box


def _entries(runs: Runs) -> Floats:
    """The middle of each mask's longest stretch on a border."""
    width, height = runs.size_wh
    x, length = runs.x + 0.5, (runs.bottom - runs.top).astype(float)
    middle, one = (runs.top + runs.bottom) / 2, np.ones(len(x))
    sides = (  # the runs on it, their pixels there, the mean place of these
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


def entries_of(shapes: Shapes, size_wh: tuple[int, int], known: Floats) -> tuple[Floats, Floats]:
    """Where the object of these successive masks enters the view, and what is known of it after the last.

    Each mask has the entry it was measured with; one that meets no border takes the entry of the mask before it
    (`known`, (2,), before the first). Before any was seen, an elongated mask enters on the side of the end of its
    axis that lies farther from the middle of the frame: the view of an endoscope is round, and masks end at its
    rim.
    """
    given = ~np.isnan(shapes.entry[:, 0])
    latest = np.maximum.accumulate(np.where(given, np.arange(len(given)), -1))
    entry = np.where(latest[:, None] >= 0, shapes.entry[latest], known)
    with np.errstate(invalid="ignore", divide="ignore"):
        lost = np.isnan(entry[:, 0]) & (shapes.extent[:, 0] >= ELONGATED * shapes.extent[:, 1])
    reach = 2 * shapes.extent[lost, :1] * shapes.axis[lost]
    ends = np.stack([shapes.centroid[lost] - reach, shapes.centroid[lost] + reach])
    far = np.linalg.norm(ends - np.asarray(size_wh) / 2, axis=2)
    entry[lost] = ends[np.argmax(far, 0), np.arange(len(reach))]
    after = shapes.entry[latest[-1]] if len(latest) and latest[-1] >= 0 else known
    return entry, after


def tips(runs: Runs, shapes: Shapes, entry: Floats) -> Floats:
    """(N, 2): the pixel centre of each mask farthest along its axis from where it enters; the mean of several.

    NaN where the mask is empty or nothing is known of its entry.
    """
    sign = np.sign(((shapes.centroid - entry) * shapes.axis).sum(1))
    along = shapes.axis * np.where(sign == 0, np.nan, sign)[:, None]
    tip = np.full((runs.count, 2), np.nan)
    filled, starts = _filled(runs)
    if not len(filled):
        return tip
    x = np.concatenate([runs.x, runs.x]) + 0.5
    y = np.concatenate([runs.top + 0.5, runs.bottom - 0.5])
    which = np.concatenate([runs.mask, runs.mask])
    reach = x * along[which, 0] + y * along[which, 1]
    half = len(runs.x)
    best = np.full(runs.count, np.nan)
    best[filled] = np.maximum.reduceat(np.maximum(reach[:half], reach[half:]), starts)
    on = reach >= best[which] - 1e-6
    points = np.bincount(which[on], minlength=runs.count)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([np.bincount(which[on], place[on], runs.count) / points for place in (x, y)], 1)


def box_gaps(a: Floats, b: Floats) -> Floats:
    """(N,): the shortest way between two boxes (N, 4) each; 0 where they touch or overlap."""
    across = np.maximum(np.maximum(b[:, :2] - a[:, 2:], a[:, :2] - b[:, 2:]), 0)
    return np.hypot(across[:, 0], across[:, 1])


def gaps(a: Runs, b: Runs) -> Floats:
    """(N,): the shortest way from the pixels of each mask of `a` to those of the same mask of `b`.

    Pixels are squares: 0 where two masks overlap or touch, be it at a corner; NaN where one has no pixel.
    """
    nearest = np.full(a.count, np.nan)
    both = np.intersect1d(_filled(a)[0], _filled(b)[0], assume_unique=True)
    if len(both):
        nearest[both] = np.sqrt(_least_squares(_Stretches.of(a.take(both)), _Stretches.of(b.take(both))))
    return nearest


class _Stretches(NamedTuple):
    """Some runs of masks that all have at least one; a box is a run that is wider. Places are int32, for speed."""

    mask: IntArray
    x1: Int32s
    y1: Int32s
    x2: Int32s
    y2: Int32s

    @classmethod
    def of(cls, runs: Runs) -> "_Stretches":
        columns = (column.astype(np.int32) for column in (runs.x, runs.top, runs.x + 1, runs.bottom))
        return cls(runs.mask, *columns)

    def at(self, rows: IntArray | NDArray[np.bool_]) -> "_Stretches":
        return _Stretches(self.mask[rows], self.x1[rows], self.y1[rows], self.x2[rows], self.y2[rows])

    def boxes(self) -> "_Stretches":
        """The box around each mask's runs."""
        starts = self.starts()
        least = (np.minimum.reduceat(column, starts) for column in (self.x1, self.y1))
        most = (np.maximum.reduceat(column, starts) for column in (self.x2, self.y2))
        return _Stretches(self.mask[starts], *least, *most)

    def starts(self) -> IntArray:
        return np.flatnonzero(np.diff(self.mask, prepend=-1))

    def squares(self, other: "_Stretches") -> Int32s:
        """Squared distance to the other ones, row by row."""
        across = np.maximum(np.maximum(other.x1 - self.x2, self.x1 - other.x2), 0)
        down = np.maximum(np.maximum(other.y1 - self.y2, self.y1 - other.y2), 0)
        return across * across + down * down

    def nearest_to(self, other: "_Stretches") -> tuple[IntArray, Int32s]:
        """For each mask the run that is nearest to the one run `other` has for it, and its squared distance."""
        squares = self.squares(other.at(self.mask))
        least = np.minimum.reduceat(squares, self.starts())
        rows = np.flatnonzero(squares == least[self.mask])
        return rows[np.flatnonzero(np.diff(self.mask[rows], prepend=-1))], least


def _least_squares(a: _Stretches, b: _Stretches) -> Int32s:
    """The least squared distance between the runs of `a` and `b` for each mask."""
    # Going to and fro between nearest runs gives a bound that is nearly always the answer; only runs whose distance
    # to the other's box is less can better it.
    rows, _ = b.nearest_to(a.boxes())
    for _ in range(3):
        ends = b.at(rows)
        nearest, _ = a.nearest_to(ends)
        rows, bound = b.nearest_to(a.at(nearest))
    for _ in range(2):
        a = a.at(_better(a, b, bound))
        b = b.at(_better(b, a, bound))
    return _all_pairs(a, b, bound)


def _better(own: _Stretches, other: _Stretches, bound: Int32s) -> NDArray[np.bool_]:
    """Which runs may be nearer to the other mask than the bound; none where it has no run left."""
    if not len(other.mask):
        return np.zeros(len(own.mask), bool)
    boxes = other.boxes()
    place = np.full(len(bound), -1)
    place[boxes.mask] = np.arange(len(boxes.mask))
    whose = place[own.mask]
    return (whose >= 0) & (own.squares(boxes.at(whose)) < bound[own.mask])


def _all_pairs(a: _Stretches, b: _Stretches, bound: Int32s) -> Int32s:
    """The bound, or what is less over all pairs of runs."""
    least = bound.copy()
    first = np.searchsorted(b.mask, a.mask, "left")
    partners = np.searchsorted(b.mask, a.mask, "right") - first
    done = np.cumsum(partners)
    for begin in range(0, int(done[-1]) if len(done) else 0, PAIRS_AT_ONCE):
        rows = slice(*np.searchsorted(done, (begin, begin + PAIRS_AT_ONCE), "right"))
        left = a.at(np.repeat(np.arange(len(done))[rows], partners[rows]))
        right = b.at(spread(first[rows], partners[rows]))
        np.minimum.at(least, left.mask, left.squares(right))
    return least
