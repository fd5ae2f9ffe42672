"""Masks on disk: the objects of any mask picture, DAVIS palette PNGs, and COCO RLE."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from samvideo.errors import ConfigError, OutputError, VideoError, shown
from samvideo.io.mask_pictures import FORMATS, FROM_FILE, WHITE, MaskRule, davis_palette, read_numbers, void_of
from samvideo.io.rle import decode_rle as decode_rle
from samvideo.types import BoolArray

MAX_ID = 255  # in a palette PNG
MAX_OBJECT_PIXELS = 1 << 30  # of the masks of one picture


_PALETTE = davis_palette()


def index_map(masks_khw: BoolArray, ids: Sequence[int], scores: Sequence[float] | None = None) -> NDArray[np.int32]:
    """Merge masks into one (H, W) map of ids, 0 for background; the higher score wins, the later mask on a tie.

    Without scores all tie. Raises ConfigError for an id below 1 or lengths that differ.
    """
    if masks_khw.ndim != 3 or len(masks_khw) != len(ids) or (scores is not None and len(scores) != len(ids)):
        raise ConfigError(
            f"masks (K, H, W) with as many ids and scores expected, not {masks_khw.shape}, {ids}, {scores}"
        )
    if any(k < 1 for k in ids):
        raise ConfigError(f"object ids count from 1 (0 is background), not {list(ids)}")
    order = np.argsort(np.zeros(len(ids)) if scores is None else np.asarray(scores), kind="stable")
    index_hw = np.zeros(masks_khw.shape[1:], np.int32)
    for row in order:
        index_hw[np.asarray(masks_khw[row], bool)] = ids[row]
    return index_hw


def write_index_png(path: Path | str, index_hw: NDArray[Any]) -> None:
    """Write an (H, W) map of ids 0 to 255 as an 8-bit PNG with the DAVIS palette.

    Raises:
        ConfigError: an id above 255, or not an integer map.
        OutputError: the file cannot be written.
    """
    index_hw = np.asarray(index_hw)
    if index_hw.ndim != 2 or index_hw.size == 0 or index_hw.dtype.kind not in "uib":
        raise ConfigError(f"an (H, W) map of integers expected, not {index_hw.dtype} {index_hw.shape}")
    low, high = int(index_hw.min()), int(index_hw.max())
    if low < 0 or high > MAX_ID:
        raise ConfigError(
            f"a palette PNG holds ids 0 to {MAX_ID}, not {low if low < 0 else high}: renumber the objects, "
            "or save RLE instead, which supports any id"
        )
    image = Image.fromarray(index_hw.astype(np.uint8))
    image.putpalette(_PALETTE.tobytes())
    try:
        image.save(path, format="PNG", compress_level=1)  # masks compress well at any level
    except OSError as error:
        raise OutputError(f"mask {path} cannot be written: {error}") from error


def read_mask_objects(
    source: Path | str | bytes,
    rule: MaskRule = FROM_FILE,
    *,
    size_wh: tuple[int, int] | None = None,
    formats: tuple[str, ...] = FORMATS,
) -> dict[int, BoolArray]:
    """Read the objects of a mask by ascending id, each bool (H, W); one object in black and white has id 1.

    See `samvideo.io.mask_pictures` for the forms that are read, and its `read_numbers` for arguments and errors.
    """
    numbers_hw = read_numbers(source, rule, size_wh=size_wh, formats=formats)
    found = {int(number) for number in np.unique(numbers_hw)} - {0}
    ids = sorted(found - {void_of(found, rule)})
    if len(ids) * numbers_hw.size > MAX_OBJECT_PIXELS:
        shape = "{1}x{0}".format(*numbers_hw.shape)
        raise VideoError(f"the mask holds {len(ids)} objects of {shape} pixels: too many to track, leave some out")
    return {1 if ids == [WHITE] else k: numbers_hw == k for k in ids}


def encode_rle(mask_hw: BoolArray) -> dict[str, Any]:
    """Encode a mask as COCO RLE: {"size": [H, W], "counts": compressed string}, ready for JSON."""
    if mask_hw.ndim != 2:
        raise ConfigError(f"one (H, W) mask expected, not shape {mask_hw.shape}")
    coded = coco.encode(np.asfortranarray(mask_hw, dtype=np.uint8))
    return {"size": [int(side) for side in coded["size"]], "counts": coded["counts"].decode("ascii")}


def decode_polygons(polygons: Sequence[Any], size_wh: tuple[int, int]) -> BoolArray:
    """Fill polygons of COCO, each a flat list x1, y1, x2, y2, ..., to one bool (H, W) mask, as pycocotools does.

    Raises:
        ConfigError: there is none, or one has less than three corners, or corners far outside the image.
    """
    for polygon in polygons:
        corners = polygon if isinstance(polygon, list) else []
        if len(corners) < 6 or len(corners) % 2 or not all(_is_near(c, max(size_wh)) for c in corners):
            raise ConfigError(
                f"a polygon of at least three corners x, y in or near the {size_wh[0]}x{size_wh[1]} image "
                f"expected, not {shown(polygon)}"
            )
    if not polygons:
        raise ConfigError("at least one polygon expected, not an empty list")
    return decode_rle(coco.merge(coco.frPyObjects(list(polygons), size_wh[1], size_wh[0])), size_wh)


def _is_near(value: Any, side: int) -> bool:
    """Whether a coordinate is a number at most one side outside of the image; the time to fill grows with it."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -side <= value <= 2 * side
