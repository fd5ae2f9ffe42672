"""Pictures of masks in the forms that people have them, to numbers per pixel: one rule wherever masks are read.

- The indices of a palette image are numbers.
- The values of a grey image are numbers where they fill areas. Black and white with soft or damaged edges is one
  object, cut off at half; so is everything with `MaskRule.threshold`.
- The colours of any other image must be black and white, or those of the DAVIS palette.
- Alpha is the mask where the colours have no information: one colour, or a photograph that was cut out.

What may be read in two ways is refused.
"""

import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from samvideo.errors import VideoError
from samvideo.types import BoolArray, UInt8Array

Numbers: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]

WHITE = 255  # one object in black and white; void beside other numbers
MAX_PIXELS = 40_000_000  # 8K video has 35 million
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "TGA")
LOSSY = ("JPEG", "MPO", "WEBP")
NEARLY_GREY = 24  # difference of the channels that conversions of black and white leave
SMALL_NUMBERS = 32  # 255 beside numbers from here on only may be shades as well
OPTIONS = (
    "; or tell how to read it: --threshold 128 (one object, from that value on) or --void 255 (numbers, 255 none)"
)
REMEDY = "save it black and white, or as a palette PNG whose indices are the objects" + OPTIONS


@dataclass(frozen=True)
class MaskRule:
    """What the user says about masks; by default it is inferred from each file.

    Attributes:
        threshold: every mask is one object, the pixels with at least this value.
        void: the number that is not an object; None: 255 beside other numbers.
        shades: look for soft edges; off where a data set's values are known to be numbers.
    """

    threshold: int | None = None
    void: int | None = None
    shades: bool = True


FROM_FILE = MaskRule()


def davis_palette() -> UInt8Array:
    """Return the palette of PASCAL VOC and DAVIS 2017, (256, 3) RGB: the bits of an id spread over the channels."""
    ids = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((ids >> channel) & 1) << (7 - bit)).astype(np.uint8)
        ids >>= 3
    return palette


_CODES = {int.from_bytes(bytes(colour), "big"): index for index, colour in enumerate(davis_palette())}


def read_numbers(
    source: Path | str | bytes,
    rule: MaskRule = FROM_FILE,
    *,
    size_wh: tuple[int, int] | None = None,
    formats: tuple[str, ...] = FORMATS,
) -> Numbers:
    """Read the (H, W) numbers of a mask, uint8 or uint16; one object in black and white has the number `WHITE`.

    Args:
        source: a file, or its content.
        rule: what is known about it.
        size_wh: width and height that it must have; nothing is decoded otherwise.
        formats: of the file, by Pillow's names.

    Raises:
        VideoError: missing, damaged, of another size or above `MAX_PIXELS`, several pictures in one file, or a
            picture that is not a mask or may be read in two ways.
    """
    name = "the mask" if isinstance(source, bytes) else f"mask {source}"
    image, lossy = open_picture(source, name, size_wh=size_wh, formats=formats)
    try:
        return _Reading(rule, lossy).numbers(image)
    except _Unclear as unclear:
        raise VideoError(f"{name} {unclear}") from None


def open_picture(
    source: Path | str | bytes,
    name: str,
    *,
    size_wh: tuple[int, int] | None = None,
    formats: tuple[str, ...] = FORMATS,
) -> tuple[Image.Image, bool]:
    """Decode a picture, turned as its EXIF tag says; its size is checked before.

    Returns the picture, and whether its values may have been changed by compression. Raises VideoError, which
    starts with `name`; see `read_numbers`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow thinks of odd files
            with Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=formats) as image:
                _check_size(image, name, size_wh)
                ImageOps.exif_transpose(image, in_place=True)
                return image, image.format in LOSSY or image.info.get("compression") == "jpeg"
    except VideoError:
        raise
    except FileNotFoundError as error:
        raise VideoError(f"{name} cannot be read: there is no such file") from error
    except Image.DecompressionBombError as error:
        raise VideoError(
            f"{name} has far more than {MAX_PIXELS:,} pixels: the size of its frame expected"
        ) from error
    except UnidentifiedImageError as error:
        raise VideoError(f"{name} cannot be read: not a {' or '.join(formats)} image, or damaged") from error
    except Exception as error:  # Pillow raises any kind for damaged files
        raise VideoError(f"{name} cannot be read ({error or type(error).__name__}): an image expected") from error


def _check_size(image: Image.Image, name: str, size_wh: tuple[int, int] | None) -> None:
    width, height = image.size
    # EXIF may turn it; the caller compares the sides.
    if size_wh is not None and sorted(image.size) != sorted(size_wh):
        raise VideoError(f"{name} is {width}x{height}, the video {size_wh[0]}x{size_wh[1]}: the same size expected")
    if width * height > MAX_PIXELS:
        raise VideoError(
            f"{name} is {width}x{height}: at most {MAX_PIXELS:,} pixels expected, the size of its frame"
        )
    if (count := getattr(image, "n_frames", 1)) > 1:
        raise VideoError(f"{name} holds {count} pictures: one picture expected, save that of the frame alone")


class _Unclear(Exception):
    """The picture is not a mask, or may be read in two ways; continues a sentence about it."""


@dataclass(frozen=True)
class _Reading:
    """Reads one picture.

    Attributes:
        rule: what the user says.
        lossy: the values may have been changed by compression.
    """

    rule: MaskRule
    lossy: bool

    def numbers(self, image: Image.Image) -> Numbers:
        """Return the numbers of a picture of any mode."""
        alpha = _alpha(image)
        if alpha is not None and not alpha.any():
            raise _Unclear("is transparent throughout: remove the alpha channel")
        if image.mode in ("P", "PA"):
            indices = np.asarray(image.getchannel(0) if image.mode == "PA" else image)
            return self._shown(self.from_palette(indices, _palette(image)), alpha)
        grey = _grey(image)
        colours = np.asarray(image.convert("RGB")) if grey is None else grey
        if alpha is None:
            return self.from_colours(colours)
        return self._with_alpha(colours, alpha)

    def _with_alpha(self, colours: Numbers, alpha: UInt8Array) -> Numbers:
        """Read a picture whose alpha may be the mask, or may only hide the background."""
        seen = _opaque(alpha)
        shown, plain = _first(colours, seen)
        visible = (
            colours if plain else np.where(seen if colours.ndim == 2 else seen[..., None], colours, np.uint8(0))
        )
        try:
            numbers = self.from_colours(visible)
        except _Unclear:
            return self.from_grey(alpha)  # a photograph, cut out
        if plain and ((colours == shown).all() or np.array_equal(numbers > 0, seen)):
            return self.from_grey(alpha)
        if plain or ((colours.ndim == 2 or numbers.max() == WHITE) and (visible != colours).any()):
            raise _Unclear(
                "has two masks, one in its colours and one in its alpha: remove the alpha channel, or save alpha "
                "as a grey picture"
            )
        return numbers

    def _shown(self, numbers: Numbers, alpha: UInt8Array | None) -> Numbers:
        """Numbers of a palette image where it is not transparent."""
        if alpha is None:
            return numbers
        seen = _opaque(alpha)
        if _first(numbers, seen)[1]:
            return self.from_grey(alpha)
        shown = numbers.copy()
        shown[~seen] = 0
        return shown

    def from_palette(self, indices: Numbers, palette: UInt8Array) -> Numbers:
        """Read the indices of a palette image, or its colours where these are shades, or index 0 is not black."""
        used = np.flatnonzero(_count(indices))
        greys = bool((palette == palette[:, :1]).all())
        if greys and self.rule.shades:
            shades = palette[:, 0][indices]
            if self.is_one_object(shades):
                return self.from_grey(shades)
            _check_areas(indices)
        elif self.rule.threshold is not None:
            raise _Unclear("has colours: --threshold expects shades of grey")
        if palette[0].any() and not palette[used].any(1).all():
            return self.from_colours(palette[indices])
        return indices

    def from_colours(self, colours: Numbers) -> Numbers:
        """Read grey values (H, W), or colours (H, W, 3)."""
        if colours.ndim == 2:
            return self.from_grey(colours)
        codes = colours[..., 0].astype(np.int32)
        for channel in (1, 2):
            codes <<= 8
            codes |= colours[..., channel]
        found = np.zeros(1 << 24, bool)
        for row in codes:  # an index takes 8 bytes a pixel
            found[row] = True
        used = np.flatnonzero(found).tolist()
        unknown = [f"#{code:06x}" for code in used if code not in _CODES]
        if self.rule.threshold is None and not unknown and not self.lossy and set(used) - {0, 0xFFFFFF}:
            table = np.zeros(1 << 24, np.uint8)
            table[used] = [_CODES[code] for code in used]
            return np.stack([table[row] for row in codes])
        darkest, brightest = colours.min(2), colours.max(2)
        spread = int((brightest - darkest).max())
        if not spread or (spread <= NEARLY_GREY and self.is_one_object(brightest)):
            return self.from_grey(brightest)
        if self.rule.threshold is not None:
            raise _Unclear("has colours: --threshold expects shades of grey")
        raise _Unclear(
            f"has {len(unknown)} colours that are not the DAVIS palette's ({', '.join(unknown[:3])}): save it as a "
            "palette PNG, or black and white (not as JPEG, which blurs colours)"
        )

    def is_one_object(self, shades: UInt8Array) -> bool:
        """Whether grey values are the mask of one object."""
        return self.rule.threshold is not None or black_and_white(shades, 255, self.lossy) is not None

    def from_grey(self, grey: Numbers) -> Numbers:
        """Read grey values."""
        full = 255 if grey.dtype == np.uint8 or grey.max() <= 255 else 65535
        mask = None
        if self.rule.threshold is not None:
            mask = grey >= self.rule.threshold
        elif self.rule.shades:
            mask = black_and_white(grey, full, self.lossy)
        if mask is not None:
            return mask.astype(np.uint8) * np.uint8(WHITE)
        if self.lossy:
            raise _Unclear("was compressed with loss, which changes numbers, and is not black and white: " + REMEDY)
        if self.rule.shades:
            _check_areas(grey)
            if self.rule.void is None:
                _check_meaning(grey)
        return grey.astype(np.uint8) if full == 255 else grey


def _alpha(image: Image.Image) -> UInt8Array | None:
    """The alpha channel; None if there is none, or it is the same everywhere."""
    keyed = "transparency" in image.info and image.mode in ("1", "L", "P", "RGB")
    if not keyed and image.getbands()[-1].upper() != "A":
        return None
    alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    return None if alpha.any() and alpha.min() == alpha.max() else alpha


def _opaque(alpha: UInt8Array) -> BoolArray:
    """Where a picture is more opaque than transparent."""
    return 2 * alpha.astype(np.uint16) > alpha.max()


def _first(colours: Numbers, seen: BoolArray) -> tuple[Numbers, bool]:
    """The first colour that is seen, and whether all that are seen are the same."""
    first = colours[np.unravel_index(seen.argmax(), seen.shape)]
    channels = np.moveaxis(np.atleast_3d(colours), 2, 0)
    pairs = zip(channels, np.atleast_1d(first), strict=True)
    return first, not any(((channel != value) & seen).any() for channel, value in pairs)


def _palette(image: Image.Image) -> UInt8Array:
    """The (256, 3) colours of a palette image, black where it has fewer."""
    stored = np.asarray(image.getpalette("RGB") or [0, 0, 0], np.uint8).reshape(-1, 3)
    return np.concatenate([stored, np.zeros((256 - len(stored), 3), np.uint8)])


def _grey(image: Image.Image) -> Numbers | None:
    """The values of an image without colours, None if it has colours."""
    mode = image.mode
    if mode == "1":
        return np.asarray(image).astype(np.uint8) * np.uint8(WHITE)
    if mode == "L":
        return np.asarray(image)
    if mode.upper() == "LA":
        return np.asarray(image.convert("LA").getchannel(0))
    if not mode.startswith(("I", "F")):
        return None
    values = np.asarray(image)
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 65535:
        raise _Unclear(f"has values from {values.min()} to {values.max()}: 0 to 65535 expected")
    if mode == "F" and values.max() <= 1:
        return np.round(values * 255).astype(np.uint8)
    if (values != np.floor(values)).any():
        raise _Unclear("has values that are not whole: integers, or shares from 0 to 1 expected")
    return values.astype(np.uint16)


def _count(values: Numbers) -> NDArray[np.int64]:
    """How often each value is there."""
    length = int(np.iinfo(values.dtype).max) + 1
    counts = np.zeros(length, np.int64)
    for block in np.array_split(values, 1 + values.size // (1 << 22)):  # bincount takes 8 bytes a pixel
        counts += np.bincount(block.reshape(-1), minlength=length)
    return counts


def _along_edges(values: Numbers) -> BoolArray:
    """Pixels with both a darker and a brighter one around them: edges, not areas."""
    around = np.ones((3, 3), np.uint8)
    found: BoolArray = (cv2.erode(values, around) < values) & (cv2.dilate(values, around) > values)
    return found


def black_and_white(grey: Numbers, full: int, lossy: bool = False) -> BoolArray | None:
    """Return the mask of a black-and-white picture; None if it is none.

    Grey may be along edges only, where the mask is cut off at half; after compression with loss black and white
    may vary as well.

    Args:
        grey: uint8 or uint16 (H, W).
        full: the value of white.
        lossy: the picture was compressed with loss.
    """
    counts = _count(grey)
    used = np.flatnonzero(counts)
    if not set(used.tolist()) - {0, full}:
        return grey == full
    dark, bright = full // 8, full - full // 8
    middle, above = int(counts[dark + 1 : bright].sum()), int(counts[bright:].sum())
    if used[0] > dark or used[-1] < bright or 3 * above < middle:
        return None
    nearly_white = int(counts[bright:full].sum())
    if not middle and not lossy and not 0 < 2 * nearly_white < above:
        return None
    edges = _along_edges(grey)
    if 2 * np.count_nonzero(edges & (grey > dark) & (grey < bright)) < middle:
        return None
    # Low numbers that fill areas are objects beside void.
    if not lossy and 4 * np.count_nonzero(~edges & (grey > 0) & (grey <= dark)) > above:
        return None
    return grey > full // 2


def _check_areas(grey: Numbers) -> None:
    """Raise _Unclear if most of the values are along edges only: not numbers, but shades."""
    counts = _count(grey)
    used = np.flatnonzero(counts)
    inner = used[(used > used[0]) & (used < used[-1])]
    if len(inner) <= 4:
        return
    edges = _count(grey[_along_edges(grey)])
    shades = int((2 * edges[inner] >= counts[inner]).sum())
    if 2 * shades > len(used):
        raise _Unclear(f"has {len(used)} values, {shades} of them along edges only, as soft edges have: {REMEDY}")


def _check_meaning(grey: Numbers) -> None:
    """Raise _Unclear for white beside greys, or greys without background: they may be shades as well as numbers."""
    used = np.flatnonzero(_count(grey)).tolist()
    others = [value for value in used if 0 < value < used[-1]]
    white_and_greys = used[-1] == WHITE and others and others[0] >= SMALL_NUMBERS
    no_background = used[0] > 1 and len(used) > 1 and used[-1] >= SMALL_NUMBERS
    if white_and_greys or no_background:
        shown = ", ".join(map(str, used[:4]))
        raise _Unclear(f"has the values {shown}{', ...' if len(used) > 4 else ''}, numbers or shades: {REMEDY}")


def void_of(numbers: set[int], rule: MaskRule = FROM_FILE) -> int | None:
    """Return which of the numbers of a mask, or of all masks of a video, is not an object; None if all are.

    255 beside other numbers is void, unless they count up to it.
    """
    if rule.void is not None:
        return rule.void
    white = WHITE if max(numbers, default=0) <= WHITE else 65535
    return white if white in numbers and len(numbers) > 1 and white - 1 not in numbers else None
