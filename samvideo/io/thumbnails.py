"""Thumbnails of frames, by which a video is recognised as the one that was tracked."""

from base64 import b64decode, b64encode
from collections import deque

import cv2
import numpy as np

from samvideo.types import UInt8Array

SIDE = 8  # pixels: of a person or a text nothing is left
SAMPLED = 256  # at most so many rows and columns of a frame are looked at
NOISE = 3  # levels by which the thumbnail of a frame differs after compression
OTHER = 32  # levels from which it is another picture
SHIFTED_FRAMES = 3  # that look like an earlier one, after which the frames are taken for shifted
REMEMBERED = 256  # frames
TEXT_LENGTH = SIDE * SIDE * 4


def thumbnail(rgb: UInt8Array) -> UInt8Array:
    """Return the mean colours (SIDE, SIDE, 3) of equal parts of an RGB image (H, W, 3)."""
    steps = [-(-side // SAMPLED) for side in rgb.shape[:2]]
    few = np.ascontiguousarray(rgb[:: steps[0], :: steps[1]])
    return np.asarray(cv2.resize(few, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def to_text(thumbnail: UInt8Array) -> str:
    """Encode a thumbnail as `TEXT_LENGTH` letters of base64."""
    return b64encode(thumbnail.tobytes()).decode()


def from_text(text: str) -> UInt8Array:
    """Decode what `to_text` returns."""
    return np.frombuffer(b64decode(text), np.uint8).reshape(SIDE, SIDE, 3)


class Recognition:
    """Tells whether the frames of a video are those of a run, given one after the other."""

    def __init__(self) -> None:
        self._past: deque[tuple[UInt8Array, UInt8Array]] = deque(maxlen=REMEMBERED)
        self._shifted = 0

    def accepts(self, shown: UInt8Array, tracked: UInt8Array) -> bool:
        """Compare the next pair of thumbnails.

        False for another picture, and where several frames look like an earlier one of the other side: then the
        video begins earlier or later, or frames were removed.
        """
        difference = _difference(shown, tracked)
        if NOISE < difference < OTHER and self._past:
            past = np.array(self._past)
            earlier = min(_difference(shown, past[:, 1]), _difference(tracked, past[:, 0]))
            self._shifted += 2 * earlier < difference
        self._past.append((shown, tracked))
        return difference < OTHER and self._shifted < SHIFTED_FRAMES


def _difference(one: UInt8Array, others: UInt8Array) -> int:
    """The greatest difference of a colour, to the most similar of the `others`."""
    return int(np.abs(others.astype(np.int16) - one).max((-3, -2, -1)).min())
