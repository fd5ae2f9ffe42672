"""Readers of still images (folders, globs, lists of files) and of arrays in memory."""

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from samvideo.errors import VideoError
from samvideo.io.base import VideoSource
from samvideo.io.timeline import shown_at_rate
from samvideo.types import Frame, UInt8Array, VideoInfo

log = logging.getLogger(__name__)

DEFAULT_RATE = Fraction(24)  # frames per second of image folders, as in DAVIS
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


def natural_key(path: Path) -> tuple[tuple[int, int, str], ...]:
    """Sort key with 2.png before 10.png: digits compare as numbers, the rest ignores case."""
    parts = re.findall(r"\d+|\D+", path.name)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part.lower()) for part in parts)


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Return the images among `paths` by suffix, without hidden files, in natural order."""
    found = (p for p in paths if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file())
    return sorted(found, key=lambda path: (str(path.parent), natural_key(path), path.name))


def read_rgb(path: Path) -> UInt8Array:
    """Read an image as uint8 RGB (H, W, 3), upright by its EXIF tag; 16 bits are cut to 8, alpha is dropped."""
    try:
        coded = np.fromfile(path, np.uint8)  # cv2.imread fails on non-ASCII paths under Windows
        bgr = cv2.imdecode(coded, cv2.IMREAD_COLOR) if len(coded) else None
    except (OSError, cv2.error) as error:
        raise VideoError(f"image {path} cannot be read: {error}") from error
    if bgr is None:
        raise VideoError(f"{path} cannot be read as an image: it is damaged, or of another type than its suffix")
    rgb: UInt8Array = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
    return rgb


class _Stills(VideoSource):
    """Frames at a constant rate; `_place` is the index of the next one."""

    _place = 0

    def _frame(self, index: int, rgb: UInt8Array, what: str) -> Frame:
        """Return frame `index`; VideoError if it has another size than the first."""
        frame = Frame(index, float(index / self.info.rate), rgb)
        if self.info.size_wh not in ((0, 0), frame.size_wh):
            raise VideoError(
                f"{self.info.name} changes its size at frame {index} ({what}), from "
                f"{'{}x{}'.format(*self.info.size_wh)} to {'{}x{}'.format(*frame.size_wh)}; "
                "the frames before are good: resize all to one size first"
            )
        return frame

    def index_at(self, seconds: float) -> int:
        """See `VideoSource.index_at`."""
        return shown_at_rate(seconds, self.info.rate, self.info.frame_count)


class ImageSource(_Stills):
    """Images in the given order; frame k is `paths[k]`, shown at k / rate seconds.

    An unreadable image is skipped, counted and logged; its index is not used. The first readable one sets the
    size: VideoError if there is none, and while reading if another image has another size.
    """

    def __init__(self, paths: Sequence[Path], name: str, rate: Fraction | None = None) -> None:
        self._paths = self.files = list(paths)
        rate, count = rate or DEFAULT_RATE, len(self._paths)
        self.info = VideoInfo(name, (0, 0), rate, count, float(count / rate), "images")
        first = self._read()
        if first is None:
            raise VideoError(f"none of the {count} images of {name} can be read: they are damaged")
        self._place, self.skipped = 0, 0
        self.info = replace(self.info, size_wh=first.size_wh)

    def _read(self) -> Frame | None:
        while self._place < len(self._paths):
            index, path = self._place, self._paths[self._place]
            self._place += 1
            try:
                rgb = read_rgb(path)
            except VideoError as error:
                self.skipped += 1
                log.warning("%s; frame %d skipped", error, index)
                continue
            return self._frame(index, rgb, str(path))
        return None

    def seek(self, index: int) -> None:
        """See `VideoSource.seek`."""
        self._check_index(index)
        self._place = index

    def _release(self) -> None:
        self._paths = []


class ArraySource(_Stills):
    """uint8 RGB arrays (H, W, 3) from a sequence, or from an iterator, which cannot seek."""

    def __init__(self, arrays: Iterable[Any], name: str = "arrays", rate: Fraction | None = None) -> None:
        self._sequence: Any = arrays if isinstance(arrays, (Sequence, np.ndarray)) else None
        self._rest: Iterator[Any] = iter(arrays)
        self._first = next(self._rest, None)
        if self._first is None:
            raise VideoError("there are no arrays to read: at least one uint8 array (H, W, 3) expected")
        rate = rate or DEFAULT_RATE
        count = None if self._sequence is None else len(self._sequence)
        size = Frame(0, 0.0, np.asarray(self._first)).size_wh
        self.info = VideoInfo(name, size, rate, count, None if count is None else float(count / rate), "arrays")

    def _read(self) -> Frame | None:
        if self._first is not None:
            rgb, self._first = self._first, None
        elif (rgb := next(self._rest, None)) is None:
            return None
        frame = self._frame(self._place, np.asarray(rgb), f"array {self._place}")
        self._place += 1
        return frame

    def seek(self, index: int) -> None:
        """Make `index` the next frame; VideoError for an iterator, which cannot go back."""
        self._check_index(index)
        if index == self._place:
            return
        if self._sequence is None:
            raise VideoError(f"{self.info.name} come from an iterator and cannot seek; give a list instead")
        self._place, self._first = index, None
        self._rest = (self._sequence[k] for k in range(index, len(self._sequence)))

    def _release(self) -> None:
        self._sequence, self._rest, self._first = None, iter(()), None
