"""Masks in the forms that people have them: one object, several, or refused with the remedy."""

import io
import zlib
from collections.abc import Callable
from contextlib import suppress

import cv2
import numpy as np
import pytest
from PIL import Image

from samvideo.errors import VideoError
from samvideo.io.mask_pictures import MaskRule, davis_palette, void_of
from samvideo.io.masks import read_mask_objects
from samvideo.types import BoolArray, UInt8Array

SHAPE = 96, 128
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]
DISC = (X - 40) ** 2 + (Y - 44) ** 2 < 22**2
SQUARE = (abs(X - 98) < 14) & (abs(Y - 60) < 14)
WHITE = DISC.astype(np.uint8) * 255
IDS = DISC.astype(np.uint8) + 2 * SQUARE.astype(np.uint8)
SOFT = cv2.GaussianBlur(WHITE, (0, 0), 2.5)
ANTIALIASED = cv2.resize(cv2.resize(WHITE, None, fx=4, fy=4), SHAPE[::-1], interpolation=cv2.INTER_AREA)
PHOTO = cv2.resize(np.random.default_rng(2).integers(0, 256, (12, 16, 3)).astype(np.uint8), SHAPE[::-1])
VOID = np.where(cv2.dilate(IDS, np.ones((5, 5), np.uint8)) > 0, 255, 0).astype(np.uint8)
VOID[IDS > 0] = IDS[IDS > 0]


def png(picture: np.ndarray | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(file, kind, **options)
    return file.getvalue()


def again(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def rgb(grey: np.ndarray) -> UInt8Array:
    return np.repeat(grey[..., None], 3, 2)


def with_palette(indices: np.ndarray, colours: object) -> Image.Image:
    image = Image.fromarray(indices.astype(np.uint8))
    image.putpalette(np.asarray(colours, np.uint8).reshape(-1).tolist())
    return image


def rgba(colours: np.ndarray, alpha: np.ndarray) -> UInt8Array:
    return np.dstack([colours, alpha]).astype(np.uint8)


PLAIN = np.full((*SHAPE, 3), 255, np.uint8)
ONE_OBJECT: dict[str, Callable[[], bytes]] = {
    "0 and 255": lambda: png(WHITE),
    "0 and 1": lambda: png(WHITE // 255),
    "1 bit": lambda: png(DISC),
    "16 bit": lambda: png(DISC.astype(np.uint16) * 65535),
    "16 bit, 0 and 255": lambda: png(DISC.astype(np.uint16) * 255),
    "16 bit, soft": lambda: png(SOFT.astype(np.uint16) * 257),
    "float": lambda: png(DISC.astype(np.float32), "TIFF"),
    "probabilities": lambda: png(SOFT.astype(np.float32) / 255, "TIFF"),
    "soft": lambda: png(SOFT),
    "soft RGB": lambda: png(rgb(SOFT)),
    "soft with alpha": lambda: png(Image.fromarray(SOFT).convert("LA")),
    "antialiased": lambda: png(ANTIALIASED),
    "JPEG": lambda: png(WHITE, "JPEG", quality=90),
    "poor JPEG": lambda: png(rgb(WHITE), "JPEG", quality=30),
    "JPEG as PNG": lambda: png(again(png(WHITE, "JPEG", quality=80))),
    "soft JPEG": lambda: png(SOFT, "JPEG"),
    "WebP": lambda: png(rgb(WHITE), "WEBP", quality=60),
    "CMYK": lambda: png(Image.fromarray(WHITE).convert("CMYK"), "JPEG"),
    "black and white": lambda: png(rgb(WHITE)),
    "opaque": lambda: png(rgba(rgb(WHITE), np.full(SHAPE, 255))),
    "white, alpha": lambda: png(rgba(PLAIN, WHITE)),
    "black, alpha": lambda: png(rgba(PLAIN * 0, WHITE)),
    "white on black, alpha": lambda: png(rgba(rgb(WHITE), WHITE)),
    "soft alpha": lambda: png(rgba(PLAIN, SOFT)),
    "cut-out": lambda: png(rgba(PHOTO, WHITE)),
    "grey cut-out": lambda: png(np.dstack([PHOTO[..., 0], WHITE])),
    "GIF": lambda: png(WHITE, "GIF"),
    "soft GIF": lambda: png(SOFT, "GIF"),
    "palette with black last": lambda: png(with_palette(~DISC, [[255] * 3, [0] * 3])),
    "palette, transparent": lambda: png(with_palette(DISC, [[255] * 3, [255] * 3]), transparency=0),
    "turned by EXIF": lambda: png(WHITE[::-1, ::-1], "JPEG", exif=_turned()),
}


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x112] = 3
    return exif


def overlap(one: BoolArray, other: BoolArray) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("form", ONE_OBJECT)
def test_one_object(form: str) -> None:
    objects = read_mask_objects(ONE_OBJECT[form]())
    assert list(objects) == [1]
    assert overlap(objects[1], DISC) > 0.97


SEVERAL: dict[str, Callable[[], bytes]] = {
    "grey": lambda: png(IDS),
    "16 bit": lambda: png(IDS.astype(np.uint16)),
    "32 bit": lambda: png(IDS.astype(np.int32), "TIFF"),
    "palette": lambda: png(with_palette(IDS, davis_palette())),
    "palette of three": lambda: png(with_palette(IDS, [[0] * 3, [9, 200, 7], [255] * 3])),
    "transparent background": lambda: png(with_palette(IDS, davis_palette()), transparency=0),
    "grey palette": lambda: png(with_palette(IDS, np.arange(256).repeat(3))),
    "DAVIS colours": lambda: png(davis_palette()[IDS]),
    "DAVIS colours, alpha": lambda: png(rgba(davis_palette()[IDS], np.where(IDS > 0, 200, 0))),
    "void": lambda: png(VOID),
    "void in a palette": lambda: png(with_palette(VOID, davis_palette())),
    "void in colours": lambda: png(davis_palette()[VOID]),
    "void in 16 bits": lambda: png(np.where(VOID == 255, 65535, VOID.astype(np.uint16) * 300)),
}


@pytest.mark.parametrize("form", SEVERAL)
def test_several_objects(form: str) -> None:
    objects = read_mask_objects(SEVERAL[form]())
    assert list(objects) == ([300, 600] if form == "void in 16 bits" else [1, 2])
    first, second = objects.values()
    np.testing.assert_array_equal(first, DISC)
    np.testing.assert_array_equal(second, SQUARE)


UNCLEAR: dict[str, tuple[Callable[[], bytes], str]] = {
    "faint": (lambda: png(SOFT // 3), "along edges only.*--threshold"),
    "numbers, soft": (lambda: png(cv2.GaussianBlur(IDS * 100, (0, 0), 2)), "along edges only.*--threshold"),
    "shades": (lambda: png(np.where(SQUARE, 127, WHITE).astype(np.uint8)), "values 0, 127, 255.*--void 255"),
    "no background": (lambda: png(np.where(DISC, 235, 16).astype(np.uint8)), "values 16, 235.*--threshold"),
    "numbers as JPEG": (lambda: png(IDS, "JPEG"), "compressed with loss"),
    "greys as JPEG": (lambda: png(IDS * 100, "JPEG"), "compressed with loss"),
    "numbers as WebP": (lambda: png(rgb(IDS * 60), "WEBP"), "compressed with loss"),
    "colours as JPEG": (lambda: png(davis_palette()[IDS], "JPEG"), "colours that are not"),
    "photograph": (lambda: png(PHOTO), "colours that are not"),
    "grey photograph": (lambda: png(PHOTO[..., 0]), "--threshold"),
    "two masks": (lambda: png(rgba(rgb(WHITE), SQUARE * np.uint8(255))), "two masks"),
    "transparent": (lambda: png(rgba(rgb(WHITE), WHITE * 0)), "transparent throughout"),
    "negative": (lambda: png(-IDS.astype(np.int32), "TIFF"), "0 to 65535 expected"),
    "not whole": (lambda: png(SOFT.astype(np.float32) / 7, "TIFF"), "not whole"),
    "not a number": (lambda: png(np.where(DISC, np.nan, 0).astype(np.float32), "TIFF"), "nan"),
    "animated": (lambda: png(WHITE, "GIF", save_all=True, append_images=[Image.fromarray(~WHITE)]), "2 pictures"),
    "pages": (lambda: png(WHITE, "TIFF", save_all=True, append_images=[Image.fromarray(~WHITE)]), "2 pictures"),
}


@pytest.mark.parametrize("form", UNCLEAR)
def test_what_may_be_read_in_two_ways_is_refused(form: str) -> None:
    make, message = UNCLEAR[form]
    with pytest.raises(VideoError, match=message):
        read_mask_objects(make())


def test_options_decide() -> None:
    shades = np.where(SQUARE, 127, WHITE).astype(np.uint8)
    np.testing.assert_array_equal(read_mask_objects(png(shades), MaskRule(threshold=100))[1], DISC | SQUARE)
    assert list(read_mask_objects(png(shades), MaskRule(void=255))) == [127]
    assert list(read_mask_objects(png(VOID), MaskRule(void=0))) == [1, 2, 255]
    assert read_mask_objects(png(SOFT), MaskRule(threshold=10))[1].sum() > DISC.sum()
    assert list(read_mask_objects(png(rgba(PLAIN, SOFT)), MaskRule(threshold=250))) == [1]
    with pytest.raises(VideoError, match="has colours"):
        read_mask_objects(png(davis_palette()[IDS]), MaskRule(threshold=10))


@pytest.mark.parametrize("count", [255, 300])
def test_many_objects_are_all_read(count: int) -> None:
    cells = np.zeros((120, 200), np.uint16)
    for k in range(count):
        y, x = divmod(k, 25)
        cells[8 * y + 1 : 8 * y + 7, 8 * x + 1 : 8 * x + 7] = k + 1
    assert list(read_mask_objects(png(cells if count > 255 else cells.astype(np.uint8)))) == [*range(1, count + 1)]


def test_void_is_white_beside_other_numbers() -> None:
    assert void_of({1, 2, 255}) == 255
    assert void_of({255}) is None
    assert void_of(set(range(1, 256))) is None  # they count up to it
    assert void_of({1, 255, 300}) is None
    assert void_of({1, 65535}) == 65535
    assert void_of({1, 2, 255}, MaskRule(void=2)) == 2


def test_the_size_is_looked_at_before_decoding() -> None:
    with pytest.raises(VideoError, match="128x96, the video 64x48"):
        read_mask_objects(png(WHITE), size_wh=(64, 48))
    large = png(np.zeros((8, 8), np.uint8)).replace(b"\0\0\0\x08\0\0\0\x08", b"\0\0\x27\x10\0\0\x27\x10")
    at = large.index(b"IHDR")
    checked = large[: at + 17] + zlib.crc32(large[at : at + 17]).to_bytes(4, "big") + large[at + 21 :]
    with pytest.raises(VideoError, match="10000x10000: at most 40,000,000 pixels"):
        read_mask_objects(checked)


def test_damaged_pictures_are_refused() -> None:
    random = np.random.default_rng(3)
    forms = [png(IDS), png(with_palette(IDS, davis_palette())), png(WHITE, "JPEG"), png(WHITE, "TIFF"), png(DISC)]
    broken = png(IDS)[:41] + b"\0\0\0\0\xff\xff\xff\xff" + bytes(8)  # a chunk without a name: SyntaxError
    with pytest.raises(VideoError, match="cannot be read"):
        read_mask_objects(broken)
    for _ in range(60):
        for content in forms:
            data = bytearray(content)
            for at in random.integers(0, len(data), 4):
                data[at] = random.integers(256)
            with suppress(VideoError):
                read_mask_objects(bytes(data[: random.integers(1, 2 * len(data))]))
