"""COCO RLE as arrays of vertical pixel runs, so that masks are measured without decoding them to images.

Many masks are processed at once: the RLE of hours of video is read in seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samvideo.errors import ConfigError, shown
from samvideo.types import BoolArray

IntArray = NDArray[np.int64]
MAX_PIXELS = 2**27  # of a mask; nothing is allocated for a larger one
LONGEST = 10  # characters of a count; longer ones exceed the pixels of any image


@dataclass(frozen=True, eq=False)
class Runs:
    """The pixels of N masks of one size as vertical runs, arrays (R,), ordered by mask, column and row."""

    size_wh: tuple[int, int]  # of every mask in pixels
    count: int  # N; an empty mask has no run
    mask: IntArray  # index of the mask of each run
    x: IntArray
    top: IntArray
    bottom: IntArray  # the row after the last

    def take(self, chosen: IntArray) -> "Runs":
        """Select masks by index, in the given order."""
        starts = np.searchsorted(self.mask, chosen, "left")
        lengths = np.searchsorted(self.mask, chosen, "right") - starts
        rows = spread(starts, lengths)
        mask = np.repeat(np.arange(len(chosen)), lengths)
        return Runs(self.size_wh, len(chosen), mask, self.x[rows], self.top[rows], self.bottom[rows])


def joined_runs(several: Sequence[Runs], size_wh: tuple[int, int]) -> Runs:
    """Concatenate the masks of several."""
    firsts = np.cumsum([0, *(runs.count for runs in several)])
    none = np.zeros(0, np.int64)
    columns = [
        np.concatenate([none, *(getattr(runs, name) + shift for runs, shift in zip(several, shifts, strict=False))])
        for name, shifts in (("mask", firsts), *((name, 0 * firsts) for name in ("x", "top", "bottom")))
    ]
    return Runs(size_wh, int(firsts[-1]), *columns)


def spread(starts: IntArray, lengths: IntArray) -> IntArray:
    """Concatenate the ranges that begin at `starts` and have these `lengths`."""
    offsets = np.cumsum(lengths) - lengths
    return np.repeat(starts - offsets, lengths) + np.arange(int(lengths.sum()))


def runs_of_masks(masks_khw: BoolArray) -> Runs:
    """Convert bool masks (K, H, W)."""
    count, height, width = masks_khw.shape
    columns = np.zeros((count, width, height + 2), np.int8)
    columns[:, :, 1:-1] = masks_khw.transpose(0, 2, 1)
    steps = np.diff(columns, axis=2)
    mask, x, top = np.nonzero(steps == 1)
    return Runs((width, height), count, mask, x, top, np.nonzero(steps == -1)[2])


def decode_rle(rle: Any, size_wh: tuple[int, int] | None = None) -> BoolArray:
    """Decode COCO RLE, compressed (a string) or not (a list), to bool (H, W).

    Raises ConfigError, before anything is allocated, if it is not valid, has more than MAX_PIXELS pixels, or
    another size than `size_wh`.
    """
    height, width = _size(rle, size_wh)
    counts, _ = _all_counts([rle["counts"]])
    if ((counts < 0) | (counts > height * width)).any() or int(counts.sum()) != height * width:
        raise ConfigError(f"not a valid COCO RLE: the runs do not add up to {height} x {width} pixels")
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return np.ascontiguousarray(flat.reshape(width, height).T)


def runs_of_rles(rles: Sequence[Any], size_wh: tuple[int, int]) -> Runs:
    """Convert COCO RLEs; ConfigError for one that is not valid, or has another size."""
    width, height = size_wh
    for rle in rles:
        _size(rle, size_wh)
    counts, lengths = _all_counts([rle["counts"] for rle in rles])
    mask = np.repeat(np.arange(len(rles)), lengths)
    first = np.cumsum(lengths) - lengths
    wrong = np.bincount(mask, counts, len(rles)) != width * height
    wrong[mask[(counts < 0) | (counts > width * height)]] = True
    if wrong.any():
        raise ConfigError(f"mask {int(wrong.argmax())}: the runs do not add up to {height} x {width} pixels")
    place = np.cumsum(counts) - counts - mask * (width * height)  # of the first pixel of each run, in its mask
    inside = ((np.arange(len(counts)) - np.repeat(first, lengths)) % 2 == 1) & (counts > 0)
    return _by_column(size_wh, len(rles), mask[inside], place[inside], counts[inside])


def _size(rle: Any, size_wh: tuple[int, int] | None) -> tuple[int, int]:
    """Return height and width of an RLE, which must be those of `size_wh` if that is given."""
    size = rle.get("size") if isinstance(rle, dict) and "counts" in rle else None
    if isinstance(size, (list, tuple)) and len(size) == 2 and all(_is_side(side) for side in size):
        height, width = size
        if size_wh is not None and (width, height) != size_wh:
            raise ConfigError(f"a COCO RLE of size [{size_wh[1]}, {size_wh[0]}] expected, not {shown(size)}")
        if height * width > MAX_PIXELS:
            raise ConfigError(f"a COCO RLE of at most {MAX_PIXELS} pixels expected, not of size {shown(size)}")
        return height, width
    raise ConfigError(f"not a valid COCO RLE: size [H, W] and counts expected, not {shown(rle)}")


def _by_column(size_wh: tuple[int, int], count: int, mask: IntArray, place: IntArray, length: IntArray) -> Runs:
    """Split runs of consecutive pixels in column-major order at the ends of columns."""
    height = size_wh[1]
    first = place // height
    columns = (place + length - 1) // height - first + 1
    whole = np.repeat(np.arange(len(place)), columns)
    x = spread(first, columns)
    top = np.maximum(place[whole] - x * height, 0)
    bottom = np.minimum((place + length)[whole] - x * height, height)
    return Runs(size_wh, count, mask[whole], x, top, bottom)


def _is_side(side: object) -> bool:
    return isinstance(side, (int, np.integer)) and not isinstance(side, bool) and bool(side > 0)


def _all_counts(several: Sequence[Any]) -> tuple[IntArray, IntArray]:
    """Return the concatenated counts of all masks, and the number of counts of each."""
    try:
        if all(isinstance(counts, (str, bytes)) for counts in several):
            return unpack([counts if isinstance(counts, bytes) else counts.encode("ascii") for counts in several])
        separate = [
            _all_counts([counts])[0] if isinstance(counts, (str, bytes)) else _plain_counts(counts)
            for counts in several
        ]
    except (ValueError, TypeError) as error:  # a UnicodeEncodeError is a ValueError
        raise ConfigError(f"not a valid COCO RLE: {error}") from error
    return np.concatenate(separate), np.array([len(counts) for counts in separate], np.int64)


def _plain_counts(counts: Any) -> IntArray:
    """Check the counts of an uncompressed RLE; ValueError if they are not whole numbers."""
    array = np.asarray(counts)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(f"counts are a string or a list of whole numbers, not {shown(counts)}")
    return array.astype(np.int64)


def unpack(strings: Sequence[bytes]) -> tuple[IntArray, IntArray]:
    """Return the concatenated counts of compressed strings, and the number of each (cocoapi: rleFrString).

    A count is a series of characters of 5 bits, lowest first, with a sixth bit set if more follow; the last one
    is signed. From the fourth count on it is the difference from the count two before.

    Raises:
        ValueError: invalid characters, or a truncated string.
    """
    ends = np.cumsum([len(string) for string in strings], dtype=np.int64)
    codes = np.frombuffer(b"".join(strings), np.uint8).astype(np.int64) - 48
    if not len(codes):
        return codes, np.zeros(len(strings), np.int64)
    last = (codes & 32) == 0
    filled = ends[np.diff(ends, prepend=0) > 0]
    if (codes < 0).any() or (codes > 63).any() or not last[filled - 1].all():
        raise ValueError("a string has invalid characters or is truncated")
    starts = np.flatnonzero(np.concatenate([[True], last[:-1]]))
    digit = np.arange(len(codes)) - np.repeat(starts, np.diff(np.append(starts, len(codes))))
    if digit.max() >= LONGEST:
        raise ValueError("a count exceeds any image size")
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
