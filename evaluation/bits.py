"""Bit-packed binary masks, eight rows per byte, which make scoring fast and keep it exact.

In an array of bytes (M, height, width), bit k of byte (m, y, x) is the pixel of mask m at row y + k * height. The
eight pixels of a byte are far from each other, and moving all masks by whole pixels means moving bytes: one slice
of the flattened array, without bit shifts. The neighbours of the first and last row are in the next bit of the last
and first row; where many rows are crossed, they are copied into a margin.
"""

from collections.abc import Sequence
from math import isqrt
from typing import TypeAlias

import cv2
import numpy as np

from samvideo.types import BoolArray, UInt8Array

BITS = 8
Mask: TypeAlias = UInt8Array | BoolArray


def count(bits: UInt8Array) -> int:
    """Count the set bits of a contiguous array."""
    return int(cv2.norm(bits.reshape(-1), cv2.NORM_HAMMING))


def pack(masks: Sequence[Mask], margin: int, bordering: Sequence[bool]) -> UInt8Array:
    """Pack masks into bytes.

    Args:
        masks: (H, W) of 0 and 1, of any sizes.
        margin: least number of zero columns to the right of every mask, and least `height`.
        bordering: whether a mask touches the right or lower border of its frame. Its last column and row are then
            repeated once, so that the pixels there equal their neighbours; other masks must end in zeros.

    Returns:
        uint8 (M, height, width).
    """
    height = max(-(-(max(len(mask) for mask in masks) + 1) // BITS), margin)
    width = max(mask.shape[1] for mask in masks) + margin
    planes = np.zeros((len(masks), BITS, height, width), np.uint8)
    canvases = planes.reshape(len(masks), BITS * height, width)
    for canvas, mask, at_border in zip(canvases, masks, bordering, strict=True):
        rows, columns = mask.shape
        canvas[:rows, :columns] = mask
        if at_border:
            canvas[rows] = canvas[rows - 1]
            canvas[:, columns] = canvas[:, columns - 1]
    packed: UInt8Array = planes[:, -1].copy()
    for bit in range(BITS - 2, -1, -1):
        np.add(packed, packed, out=packed)  # shift by one bit: NumPy adds faster than it shifts
        np.bitwise_or(packed, planes[:, bit], out=packed)
    return packed


def trim(packed: UInt8Array, masks: Sequence[Mask], bordering: Sequence[bool]) -> None:
    """Clear the repeated row and column outside the masks."""
    height = packed.shape[1]
    for bits, mask, at_border in zip(packed, masks, bordering, strict=True):
        if at_border:
            rows, columns = mask.shape
            bits[:, columns] = 0
            bits[rows % height] &= 0xFF ^ (1 << rows // height)
    packed[:, :, -1] = 0


def boundaries(packed: UInt8Array) -> UInt8Array:
    """Mark pixels that differ from their right, lower or lower-right neighbour.

    The packed masks must not be trimmed yet; the caller trims the result.
    """
    below = np.empty_like(packed)
    below[:, :-1] = packed[:, 1:]
    np.right_shift(packed[:, 0], 1, out=below[:, -1])
    edges: UInt8Array = packed ^ below
    stream = packed.reshape(-1)
    for neighbours in (stream[1:], below.reshape(-1)[1:]):
        edges.reshape(-1)[:-1] |= stream[:-1] ^ neighbours
    return edges


def dilate(bits: UInt8Array, radius: int) -> UInt8Array:
    """Mark pixels at most `radius` from a set one; the masks are trimmed and packed with this margin.

    A disk is a stack of rows that get wider towards its centre. It is built from its top and bottom rows inwards:
    the part built so far spreads one row up and down, and the next wider row is added. Each row is then in its
    place, and the other rows it was copied to are wider anyway. The margin of the result is not zero.
    """
    number, height, width = bits.shape
    tall = np.empty((number, height + 2 * radius, width), np.uint8)
    tall[:, radius:-radius] = bits
    np.left_shift(bits[:, -radius:], 1, out=tall[:, :radius])
    np.right_shift(bits[:, :radius], 1, out=tall[:, -radius:])
    row = disk = tall.reshape(-1)
    reach = 0
    for distance in range(radius - 1, -1, -1):
        half_width = isqrt(radius**2 - distance**2)
        while reach < half_width:
            step = min(half_width - reach, 2 * reach + 1)
            row = _spread(row, row, step)
            reach += step
        disk = _spread(row, disk, width)
    near: UInt8Array = disk.reshape(tall.shape)[:, radius:-radius]
    return near


def _spread(base: UInt8Array, source: UInt8Array, distance: int) -> UInt8Array:
    """Return the union of `base` and of `source` moved by `distance` bytes in both directions."""
    result = np.empty_like(base)
    result[:distance] = base[:distance]
    np.bitwise_or(base[distance:], source[:-distance], out=result[distance:])
    np.bitwise_or(result[:-distance], source[distance:], out=result[:-distance])
    return result
