"""What is measured of each mask: size, place, direction, tip, and the gap between two of them."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from samvideo.io.runs import IntArray, Runs, spread

Floats = NDArray[np.float64]
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
    area = np.bincount(which, length, count)
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
    filled = np.unique(runs.mask)
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
    axis that lies nearer to a border: the view of an endoscope is round, and masks may end at its rim.
    """
    given = ~np.isnan(shapes.entry[:, 0])
    latest = np.maximum.accumulate(np.where(given, np.arange(len(given)), -1))
    entry = np.where(latest[:, None] >= 0, shapes.entry[latest], known)
    with np.errstate(invalid="ignore", divide="ignore"):
        lost = np.isnan(entry[:, 0]) & (shapes.extent[:, 0] >= ELONGATED * shapes.extent[:, 1])
    reach = 2 * shapes.extent[lost, :1] * shapes.axis[lost]
    ends = np.stack([shapes.centroid[lost] - reach, shapes.centroid[lost] + reach])
    far = np.minimum(ends, np.asarray(size_wh) - ends).min(2)
    entry[lost] = ends[np.argmin(far, 0), np.arange(len(reach))]
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
    both = np.intersect1d(a.mask, b.mask)
    if not len(both):
        return nearest
    a, b = a.take(both), b.take(both)
    starts = _filled(a)[1]
    # One run of b, the nearest to the box of a, gives a bound; runs whose box is farther cannot be the nearest.
    box_a, box_b = _boxes(a), _boxes(b)
    far_b = box_gaps(_run_boxes(b), box_a[b.mask])
    order = np.lexsort((far_b, b.mask))
    closest = order[_filled(b)[1]]
    bound = np.minimum.reduceat(box_gaps(_run_boxes(a), _run_boxes(b)[closest][a.mask]), starts)
    keep_a = np.flatnonzero(box_gaps(_run_boxes(a), box_b[a.mask]) <= bound[a.mask])
    keep_b = np.flatnonzero(far_b <= bound[b.mask])
    nearest[both] = np.minimum(bound, _all_pairs(a, b, keep_a, keep_b, bound))
    return nearest


def _run_boxes(runs: Runs) -> Floats:
    return np.stack([runs.x, runs.top, runs.x + 1, runs.bottom], 1).astype(float)


def _all_pairs(a: Runs, b: Runs, keep_a: IntArray, keep_b: IntArray, bound: Floats) -> Floats:
    """The least gap over all pairs of the runs kept, for each mask; masks with `bound` 0 are not looked at."""
    least = bound.copy()
    keep_a = keep_a[bound[a.mask[keep_a]] > 0]
    first = np.searchsorted(b.mask[keep_b], a.mask[keep_a], "left")
    partners = np.searchsorted(b.mask[keep_b], a.mask[keep_a], "right") - first
    boxes_a, boxes_b = _run_boxes(a), _run_boxes(b)
    done = np.cumsum(partners)
    for begin in range(0, int(done[-1]) if len(done) else 0, PAIRS_AT_ONCE):
        rows = slice(*np.searchsorted(done, (begin, begin + PAIRS_AT_ONCE), "right"))
        left = np.repeat(keep_a[rows], partners[rows])
        right = keep_b[spread(first[rows], partners[rows])]
        np.minimum.at(least, a.mask[left], box_gaps(boxes_a[left], boxes_b[right]))
    return least
