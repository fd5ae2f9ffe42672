"""Masks as vertical runs of pixels: what COCO run lengths hold, measured without painting a picture.

Many masks are handled in one go, so that hours of run lengths are read in seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samvideo.errors import ConfigError
from samvideo.types import BoolArray

IntArray = NDArray[np.int64]
LONGEST = 10  # characters of a count: longer ones count more pixels than any picture has


@dataclass(frozen=True, eq=False)
class Runs:
    """The pixels of N masks of one size as R vertical runs, by mask, then by column, then downward.

    Attributes:
        size_wh: width and height of every mask in pixels.
        count: N; a mask without pixels has no run.
        mask: int64 (R,), which mask a run belongs to, 0 to N - 1, ascending.
        x, top, bottom: int64 (R,), its column, its first row and the row after its last.
    """

    size_wh: tuple[int, int]
    count: int
    mask: IntArray
    x: IntArray
    top: IntArray
    bottom: IntArray

    def take(self, chosen: IntArray) -> "Runs":
        """The masks of these numbers, in this order."""
        starts = np.searchsorted(self.mask, chosen, "left")
        lengths = np.searchsorted(self.mask, chosen, "right") - starts
        rows = spread(starts, lengths)
        mask = np.repeat(np.arange(len(chosen)), lengths)
        return Runs(self.size_wh, len(chosen), mask, self.x[rows], self.top[rows], self.bottom[rows])


def joined_runs(several: Sequence[Runs], size_wh: tuple[int, int]) -> Runs:
    """All masks of several, one after another."""
    firsts = np.cumsum([0, *(runs.count for runs in several)])
    none = np.zeros(0, np.int64)
    columns = [
        np.concatenate([none, *(getattr(runs, name) + shift for runs, shift in zip(several, shifts, strict=False))])
        for name, shifts in (("mask", firsts), *((name, 0 * firsts) for name in ("x", "top", "bottom")))
    ]
    return Runs(size_wh, int(firsts[-1]), *columns)


def spread(starts: IntArray, lengths: IntArray) -> IntArray:
    """The whole numbers from each start on, as many as its length, one after another."""
    offsets = np.cumsum(lengths) - lengths
    return np.repeat(starts - offsets, lengths) + np.arange(int(lengths.sum()))


def runs_of_masks(masks_khw: BoolArray) -> Runs:
    """The runs of bool masks (K, H, W)."""
    count, height, width = masks_khw.shape
    columns = np.zeros((count, width, height + 2), np.int8)
    columns[:, :, 1:-1] = masks_khw.transpose(0, 2, 1)
    steps = np.diff(columns, axis=2)
    mask, x, top = np.nonzero(steps == 1)
    return Runs((width, height), count, mask, x, top, np.nonzero(steps == -1)[2])


def runs_of_rles(rles: Sequence[Any], size_wh: tuple[int, int]) -> Runs:
    """The runs of COCO run lengths, each {"size": [H, W], "counts": a string or a list}.

    Raises:
        ConfigError: one is no such thing, or has another size.
    """
    width, height = size_wh
    for number, rle in enumerate(rles):
        if not isinstance(rle, dict) or list(rle.get("size", ())) != [height, width] or "counts" not in rle:
            raise ConfigError(
                f"mask {number}: run lengths of size [{height}, {width}] and counts expected, not {str(rle)[:80]}"
            )
    counts, lengths = _all_counts([rle["counts"] for rle in rles])
    mask = np.repeat(np.arange(len(rles)), lengths)
    first = np.cumsum(lengths) - lengths
    totals = np.bincount(mask, counts, len(rles))
    if (counts < 0).any() or (totals != width * height).any():
        worst = int(np.flatnonzero(totals != width * height)[0]) if (totals != width * height).any() else 0
        raise ConfigError(f"mask {worst}: the runs do not add up to {height} x {width} pixels")
    place = np.cumsum(counts) - counts - mask * (width * height)  # of a run's first pixel, in its mask
    inside = ((np.arange(len(counts)) - np.repeat(first, lengths)) % 2 == 1) & (counts > 0)
    return _by_column(size_wh, len(rles), mask[inside], place[inside], counts[inside])


def _by_column(size_wh: tuple[int, int], count: int, mask: IntArray, place: IntArray, length: IntArray) -> Runs:
    """Cut runs of consecutive pixels, counted down the columns, where a column ends."""
    height = size_wh[1]
    first = place // height
    columns = (place + length - 1) // height - first + 1
    whole = np.repeat(np.arange(len(place)), columns)
    x = spread(first, columns)
    top = np.maximum(place[whole] - x * height, 0)
    bottom = np.minimum((place + length)[whole] - x * height, height)
    return Runs(size_wh, count, mask[whole], x, top, bottom)


def _all_counts(several: Sequence[Any]) -> tuple[IntArray, IntArray]:
    """The counts of all masks one after another, and how many each has."""
    packed = [i for i, counts in enumerate(several) if isinstance(counts, str)]
    if len(packed) == len(several):
        try:
            return unpack([counts.encode("ascii") for counts in several])
        except ValueError as error:  # a UnicodeEncodeError is one too
            raise ConfigError(f"these are no COCO run lengths: {error}") from error
    try:
        apart = [
            unpack([counts.encode("ascii")])[0]
            if isinstance(counts, str)
            else np.array([int(n) for n in counts], np.int64)
            for counts in several
        ]
    except (ValueError, TypeError) as error:
        raise ConfigError(f"these are no COCO run lengths: {error}") from error
    return np.concatenate(apart), np.array([len(counts) for counts in apart], np.int64)


def unpack(strings: Sequence[bytes]) -> tuple[IntArray, IntArray]:
    """Counts of compressed strings, one after another, and how many each has (cocoapi: maskApi.c, rleFrString).

    Each count is a few characters of 5 bits, lowest first, with a sixth bit while more follow, the last one
    signed; from the fourth count on it is the difference to the count two before.

    Raises:
        ValueError: characters that do not belong, or a string that is cut off.
    """
    ends = np.cumsum([len(string) for string in strings], dtype=np.int64)
    codes = np.frombuffer(b"".join(strings), np.uint8).astype(np.int64) - 48
    if not len(codes):
        return codes, np.zeros(len(strings), np.int64)
    last = (codes & 32) == 0
    filled = ends[np.diff(ends, prepend=0) > 0]
    if (codes < 0).any() or (codes > 63).any() or not last[filled - 1].all():
        raise ValueError("a string has characters that do not belong, or is cut off")
    starts = np.flatnonzero(np.concatenate([[True], last[:-1]]))
    digit = np.arange(len(codes)) - np.repeat(starts, np.diff(np.append(starts, len(codes))))
    if digit.max() >= LONGEST:
        raise ValueError("a count is longer than any picture")
    values = np.add.reduceat((codes & 31) << (5 * digit), starts)
    values -= ((codes[last] & 16) != 0) * (np.int64(1) << (5 * (digit[last] + 1)))
    lengths = np.diff(np.cumsum(last)[ends - 1] * (ends > 0), prepend=0)
    ordinal = spread(np.zeros(len(strings), np.int64), lengths)
    odd, later = ordinal % 2 == 1, (ordinal % 2 == 0) & (ordinal > 0)
    for chosen in (odd, later):
        sums = np.cumsum(np.where(chosen, values, 0))
        before = np.concatenate([[0], sums])[np.cumsum(lengths) - lengths]
        values[chosen] = (sums - np.repeat(before, lengths))[chosen]
    return values, lengths
