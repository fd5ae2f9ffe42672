"""Readers of still images (folders, globs, lists of files) and of arrays in memory."""

import itertools
import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samvideo.errors import VideoError
from samvideo.io.base import VideoSource
from samvideo.io.timeline import shown_at_rate
from samvideo.types import Frame, UInt8Array, VideoInfo

log = logging.getLogger(__name__)

DEFAULT_RATE = Fraction(24)  # frames per second of image folders, as in DAVIS
PNG = b"\x89PNG\r\n\x1a\n"
ANIMATED = ("PNG", "GIF", "AVIF", "WEBP", "TIFF")  # Pillow's names of formats that may hold several pictures
ORIENTATION = 0x0112  # EXIF tag
NEW_SUBFILE_TYPE = 254  # TIFF tag; bit 0 of its value marks a smaller copy of another page
# In the name of a file that lies beside a picture and is none.
MASK_WORDS = frozenset(
    ("mask", "masks", "msk", "seg", "segm", "segmentation", "label", "labels", "gt", "annotation")
)
MASK_WORDS |= {"groundtruth", "annotations", "matte", "alpha", "trimap", "depth", "flow", "overlay"}
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


def natural_key(path: Path) -> tuple[tuple[int, int, str], ...]:
    """Sort key with 2.png before 10.png: digits compare as numbers, the rest ignores case."""
    parts = re.findall(r"\d+|\D+", path.name)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part.lower()) for part in parts)


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Return the images among `paths` by suffix, without hidden files, in natural order."""
    found = (p for p in paths if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file())
    return sorted(found, key=lambda path: (str(path.parent), natural_key(path), path.name))


def read_still(path: Path) -> UInt8Array:
    """`check_single`, then `read_rgb`."""
    check_single(path)
    return read_rgb(path)


def check_single(path: Path) -> None:
    """Raise VideoError for an animation, or a file of several pages."""
    if kind := animation_of(path):
        raise VideoError(
            f"{path} is a {kind} of several pictures: save each as a file of a folder, for instance with "
            f"`magick {path.name} folder/%05d.png`"
        )


def size_stated(path: Path) -> tuple[int, int] | None:
    """Width and height in the header of an image; None if it cannot be read, or the image may have to be turned."""
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")
            return None if image.getexif().get(ORIENTATION, 1) != 1 else image.size
    except Exception:  # damaged, or of a kind that another reader knows
        return None


def warn_of_depth(path: Path, name: str) -> None:
    """Log that an image has more than 8 bits, and that they are cut."""
    if _decode(path, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH).dtype != np.uint8:
        log.warning("%s: pictures of more than 8 bits are cut to 8: scale them first if they look dark", name)


def read_rgb(source: Path | bytes) -> UInt8Array:
    """Read an image as uint8 RGB (H, W, 3), upright by its EXIF tag; 16 bits are cut to 8, alpha is dropped."""
    bgr = _decode(source, cv2.IMREAD_COLOR)
    rgb: UInt8Array = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
    return rgb


def _decode(source: Path | bytes, flags: int) -> NDArray[Any]:
    path = "the image" if isinstance(source, bytes) else source
    try:
        # cv2.imread fails on non-ASCII paths under Windows
        coded = source if isinstance(source, bytes) else source.read_bytes()
        image = None
        if coded and not _is_cut_png(coded):
            image = cv2.imdecode(np.frombuffer(coded, np.uint8), flags)
    except (OSError, cv2.error) as error:
        raise VideoError(f"image {path} cannot be read: {error}") from error
    if image is None:
        raise VideoError(
            f"{path} cannot be read as an image: it is damaged, or of a type that is not known (JPEG, PNG, WebP, "
            "BMP and TIFF of whole numbers are)"
        )
    return image


def _is_cut_png(coded: bytes) -> bool:
    """Return whether a chunk of a PNG claims more bytes than follow: OpenCV would allocate them."""
    place = len(PNG)
    while coded.startswith(PNG) and place + 8 <= len(coded) and coded[place + 4 : place + 8] != b"IEND":
        place += 12 + int.from_bytes(coded[place : place + 4], "big")
    return place > len(coded)


def animation_of(path: Path) -> str | None:
    """Return the format in `ANIMATED` of a file that holds several pictures, whatever its suffix, else None."""
    try:
        with warnings.catch_warnings(), Image.open(path, formats=ANIMATED) as image:
            warnings.simplefilter("ignore")
            if image.format != "TIFF":
                return image.format if getattr(image, "is_animated", False) else None
            for page in itertools.count(1):
                image.seek(page)  # EOFError after the last
                if not image.tag_v2.get(NEW_SUBFILE_TYPE, 0) & 1:
                    return "TIFF"
    except Exception:  # damaged, or another kind of file: its reader tells
        return None
    return None


def check_companions(images: Sequence[Path]) -> None:
    """Raise VideoError if images have masks among them: 0.png with 0.jpg, 0_mask.png or gt-0.png."""
    by_place: dict[tuple[Path, str], Path] = {}
    for path in images:
        other = by_place.setdefault((path.parent, path.stem), path)
        if other != path:
            raise _companions(other, path)
    masks = {path for path in images if not MASK_WORDS.isdisjoint(re.findall(r"[a-z]+", path.stem.lower()))}
    if 0 < len(masks) < len(images):
        raise _companions(next(path for path in images if path not in masks), next(iter(sorted(masks))))


def _companions(first: Path, second: Path) -> VideoError:
    pattern = "a pattern that matches the pictures only"
    if first.suffix != second.suffix:  # masks are hardly ever stored as JPEG
        pictures = min(first, second, key=lambda path: not path.suffix.lower().startswith(".jp"))
        pattern += f", such as '{pictures.with_name('*' + pictures.suffix)}'"
    return VideoError(
        f"{first} and {second.name} look like a picture and a mask, which would both be read: give "
        f"{pattern}, or move the masks away"
    )


class Stills(VideoSource):
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


class ImageSource(Stills):
    """Images in the given order; frame k is `paths[k]`, shown at k / rate seconds.

    An unreadable image is skipped, counted and logged; its index is not used. The first readable one sets the
    size: VideoError if there is none, and while reading if another image has another size or holds several pictures
    (an animation, pages).
    """

    def __init__(self, paths: Sequence[Path], name: str, rate: Fraction | None = None) -> None:
        self._paths = self.files = list(paths)
        rate, count = rate or DEFAULT_RATE, len(self._paths)
        self.info = VideoInfo(name, (0, 0), rate, count, float(count / rate), "images")
        first = self._read()
        if first is None:
            raise VideoError(f"none of the {count} images of {name} can be read: they are damaged")
        warn_of_depth(self._paths[first.index], name)
        self._place, self.skipped = 0, 0
        self.info = replace(self.info, size_wh=first.size_wh)

    def _read(self) -> Frame | None:
        while self._place < len(self._paths):
            index, path = self._place, self._paths[self._place]
            check_single(path)
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


class ArraySource(Stills):
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
        self.info = VideoInfo(
            name, size, rate, count, None if count is None else float(count / rate), "arrays", live=count is None
        )

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
