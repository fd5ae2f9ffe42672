"""Masks on disk: DAVIS palette PNGs and COCO RLE."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco

from samvideo.errors import ConfigError, OutputError, VideoError
from samvideo.io.rle import decode_rle as decode_rle
from samvideo.types import BoolArray, UInt8Array

MAX_ID = 255  # in a palette PNG


def davis_palette() -> UInt8Array:
    """Return the palette of PASCAL VOC and DAVIS 2017, (256, 3) RGB: the bits of an id spread over the channels."""
    ids = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((ids >> channel) & 1) << (7 - bit)).astype(np.uint8)
        ids >>= 3
    return palette


_PALETTE = davis_palette()
_CODES = {int.from_bytes(bytes(colour), "big"): index for index, colour in enumerate(_PALETTE)}


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


def read_index_png(path: Path | str) -> NDArray[np.int32]:
    """Read the (H, W) ids of a mask file: indices of a palette or grey PNG, or the DAVIS index of each colour.

    An image of 0 and 255 only (or 1 bit, or black and white RGB) is one mask: its 255 becomes id 1. In other
    colour images every colour must be one of the DAVIS palette; alpha is ignored.

    Raises:
        VideoError: the file is missing, unreadable, or has other colours.
    """
    try:
        with Image.open(path) as image:
            # The indices of a palette image are the ids; its colours are ignored.
            indexed = image.mode in ("P", "L", "1", "I", "I;16")
            values = np.asarray(image if indexed else image.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise VideoError(f"mask {path} cannot be read: {error}; an image file expected") from error
    one_mask = image.mode != "P" and bool(np.isin(values, (0, 255)).all())
    if values.ndim == 3:
        if not one_mask or (values != values[..., :1]).any():
            return _colour_ids(values, path)
        values = values[..., 0]
    return (values > 0 if one_mask else values).astype(np.int32)


def _colour_ids(rgb: UInt8Array, path: Path | str) -> NDArray[np.int32]:
    codes = (rgb.astype(np.int32) * (65536, 256, 1)).sum(2)
    colours, places = np.unique(codes, return_inverse=True)
    unknown = [f"#{colour:06x}" for colour in colours.tolist() if colour not in _CODES]
    if unknown:
        raise VideoError(
            f"mask {path} has {len(unknown)} colours that are not the DAVIS palette's ({', '.join(unknown[:3])}): "
            "save it as a palette PNG, or black and white (not as JPEG, which blurs colours)"
        )
    ids = np.array([_CODES[colour] for colour in colours.tolist()], np.int32)
    return np.asarray(ids[places.reshape(codes.shape)], np.int32)


def read_mask_objects(path: Path | str) -> dict[int, BoolArray]:
    """Read the objects of a mask file by ascending id, each bool (H, W); see `read_index_png`."""
    index_hw = read_index_png(path)
    return {int(k): index_hw == k for k in np.unique(index_hw) if k > 0}


def encode_rle(mask_hw: BoolArray) -> dict[str, Any]:
    """Encode a mask as COCO RLE: {"size": [H, W], "counts": compressed string}, ready for JSON."""
    if mask_hw.ndim != 2:
        raise ConfigError(f"one (H, W) mask expected, not shape {mask_hw.shape}")
    coded = coco.encode(np.asfortranarray(mask_hw, dtype=np.uint8))
    return {"size": [int(side) for side in coded["size"]], "counts": coded["counts"].decode("ascii")}
