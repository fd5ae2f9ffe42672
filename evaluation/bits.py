"""Binary pictures, eight rows to the byte: what makes scoring fast without making it approximate.

In an array of bytes (P, height, width), bit k of byte (p, y, x) is the pixel of picture p at row y + k * height.
A byte so holds eight pixels that lie far apart, and moving pictures by whole pixels is moving bytes: one slice of
the stream of all bytes for all pictures, without shifts. Pixels next to the first and last row are in the
neighbouring bit of the last and first row; where many rows are to be crossed they are copied into a margin.
"""

from collections.abc import Sequence
from math import isqrt
from typing import TypeAlias

import cv2
import numpy as np

from samvideo.types import BoolArray, UInt8Array

BITS = 8
Picture: TypeAlias = UInt8Array | BoolArray


def count(bits: UInt8Array) -> int:
    """Number of bits set in a contiguous array."""
    return int(cv2.norm(bits.reshape(-1), cv2.NORM_HAMMING))


def pack(pictures: Sequence[Picture], margin: int, bordering: Sequence[bool]) -> UInt8Array:
    """Pictures (H, W) of 0 and 1, of any sizes, as uint8 (P, height, width), eight rows to the byte.

    To the right and below come zeros, at least `margin` columns. Where a picture ends at the border of its frame
    (`bordering`), its last column and row are repeated once before, so that a pixel there has neighbours like
    itself; other pictures end in zeros themselves. `height` is at least `margin`.
    """
    height = max(-(-(max(len(picture) for picture in pictures) + 1) // BITS), margin)
    width = max(picture.shape[1] for picture in pictures) + margin
    planes = np.zeros((len(pictures), BITS, height, width), np.uint8)
    canvases = planes.reshape(len(pictures), BITS * height, width)
    for canvas, picture, at_border in zip(canvases, pictures, bordering, strict=True):
        rows, columns = picture.shape
        canvas[:rows, :columns] = picture
        if at_border:
            canvas[rows] = canvas[rows - 1]
            canvas[:, columns] = canvas[:, columns - 1]
    packed: UInt8Array = planes[:, -1].copy()
    for bit in range(BITS - 2, -1, -1):
        np.add(packed, packed, out=packed)  # one bit up: NumPy adds faster than it shifts
        np.bitwise_or(packed, planes[:, bit], out=packed)
    return packed


def trim(packed: UInt8Array, pictures: Sequence[Picture], bordering: Sequence[bool]) -> None:
    """Clear what lies outside the pictures: the repeated row and column."""
    height = packed.shape[1]
    for bits, picture, at_border in zip(packed, pictures, bordering, strict=True):
        if at_border:
            rows, columns = picture.shape
            bits[:, columns] = 0
            bits[rows % height] &= 0xFF ^ (1 << rows // height)
    packed[:, :, -1] = 0


def boundaries(packed: UInt8Array) -> UInt8Array:
    """Where a pixel differs from its right, lower or lower-right neighbour, in packed pictures.

    They must not yet be trimmed; the result is to be trimmed.
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
    """Pixels at most `radius` from a set one, for trimmed pictures packed with that margin (not kept zero).

    A disk is a stack of rows that widen towards its middle. It is built from its top and bottom rows inwards: what
    there is so far spreads one row up and down, and the next wider row is added. Row k of the disk is then where it
    belongs, and every row that it also went to is wider.
    """
    pictures, height, width = bits.shape
    tall = np.empty((pictures, height + 2 * radius, width), np.uint8)
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
    """`base`, and `source` moved `distance` bytes either way."""
    result = np.empty_like(base)
    result[:distance] = base[:distance]
    np.bitwise_or(base[distance:], source[:-distance], out=result[distance:])
    np.bitwise_or(result[:-distance], source[distance:], out=result[:-distance])
    return result
