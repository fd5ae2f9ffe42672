"""Mask files of a benchmark: read strictly, so that every error names path and remedy, and written."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from samvideo.errors import DatasetError, VideoError
from samvideo.evaluation.metrics import FrameScore, score_indices, score_masks
from samvideo.io.mask_pictures import FROM_FILE, WHITE, MaskRule, open_picture, read_numbers, void_of
from samvideo.io.masks import write_index_png
from samvideo.types import BoolArray, UInt8Array

AS_STORED = MaskRule(shades=False)
"""For published masks whose values stand in a table."""


@dataclass(frozen=True, eq=False)
class MaskSet:
    """All masks of one frame: object numbers per pixel, or separate masks if they may overlap.

    Attributes:
        index: uint8 (H, W), or None.
        apart: bool (H, W) per object number, if `index` is None.
    """

    index: UInt8Array | None = None
    apart: Mapping[int, BoolArray] = field(default_factory=dict)

    @property
    def areas(self) -> dict[int, int]:
        """Number of pixels of each object whose mask is not empty."""
        if self.index is not None:
            counts = np.bincount(self.index.reshape(-1))
            return {int(number): int(counts[number]) for number in np.flatnonzero(counts) if number}
        return {number: area for number, mask in self.apart.items() if (area := int(np.count_nonzero(mask)))}

    @property
    def numbers(self) -> set[int]:
        """Numbers of the objects whose masks are not empty."""
        return set(self.areas)

    def mask(self, number: int) -> BoolArray | None:
        """Return the mask of one object, None if it has none."""
        if self.index is not None:
            return self.index == number
        return self.apart.get(number)

    def union(self, numbers: Iterable[int], shape_hw: tuple[int, int]) -> BoolArray:
        """Return the union of the masks of some objects; those without a mask count as empty."""
        masks = [mask for mask in map(self.mask, numbers) if mask is not None]
        return np.any(masks, 0) if masks else np.zeros(shape_hw, bool)

    @property
    def shape_hw(self) -> tuple[int, int] | None:
        """Height and width of the frame, None without masks."""
        array = self.index if self.index is not None else next(iter(self.apart.values()), None)
        return None if array is None else (array.shape[0], array.shape[1])


def score_frame(truth: MaskSet, prediction: MaskSet, objects: list[int]) -> list[FrameScore]:
    """Score some objects of one frame; a missing mask counts as empty.

    Raises:
        DatasetError: the sizes differ.
    """
    if truth.index is not None and prediction.index is not None:
        return score_indices(truth.index, prediction.index, objects)
    shape = truth.shape_hw or prediction.shape_hw or (1, 1)
    return [score_masks(truth.union([number], shape), prediction.union([number], shape)) for number in objects]


def read_index_png(path: Path, rule: MaskRule = FROM_FILE) -> UInt8Array:
    """Read the object numbers of a mask, uint8 (H, W); see `samvideo.io.mask_pictures`.

    Raises:
        DatasetError: the file is missing, unreadable, no mask, or has a number above 255.
    """
    if not path.is_file():
        raise DatasetError(f"{path} is missing, or no file: restore it from the archive it came from")
    try:
        numbers = read_numbers(path, rule)
    except VideoError as error:
        raise DatasetError(f"{error}; or replace it by a fresh copy from the archive") from error
    if numbers.dtype != np.uint8:
        raise DatasetError(f"{path} has object {numbers.max()}: numbers up to 255 expected, renumber the objects")
    return np.asarray(numbers, np.uint8)


def read_colours(path: Path) -> UInt8Array:
    """Read the colours of a picture, uint8 (H, W, 3); DatasetError if it is missing or unreadable."""
    try:
        return np.asarray(open_picture(path, str(path))[0].convert("RGB"))
    except VideoError as error:
        raise DatasetError(f"{error}: restore it from the archive") from error


def read_binary_png(path: Path, rule: MaskRule = FROM_FILE, *, joined: bool = False) -> BoolArray:
    """Read the mask of one object, or of all: every value but zero, and but 255 beside another.

    Raises:
        DatasetError: as `read_index_png`, or there are several objects, unless they are to be `joined`.
    """
    masks = MaskSet(index=read_index_png(path, rule))
    numbers = masks.numbers - {void_of(masks.numbers, rule)}
    if len(numbers) > 1 and not joined:
        raise DatasetError(f"{path} holds several objects: one object per file and folder expected here")
    return masks.union(numbers, masks.shape_hw or (1, 1))


def without_void(masks: MaskSet, labels: Mapping[int, str], rule: MaskRule) -> MaskSet:
    """Read the pixels of the void number as background, where there is no object of that number."""
    if masks.index is None or (void := void_of(masks.numbers | labels.keys(), rule)) is None or void in labels:
        return masks
    return MaskSet(index=np.where(masks.index == void, np.uint8(0), masks.index))


def read_prediction(
    folder: Path, frame: str, labels: Mapping[int, str], apart: bool, rule: MaskRule = FROM_FILE
) -> MaskSet:
    """Read the predictions of one frame: `<frame>.png`, or `<label>/<frame>.png` for each object if `apart`.

    A single object may be written as 1 or as 255, whichever of them the ground truth has.

    Raises:
        DatasetError: a file is missing, unreadable, or has an object that does not exist.
    """
    if apart:
        files = {number: folder / label / f"{frame}.png" for number, label in labels.items()}
        return MaskSet(apart={number: read_binary_png(file, rule) for number, file in files.items()})
    path = folder / f"{frame}.png"
    masks = MaskSet(index=read_index_png(path, rule))
    either = {1, WHITE}
    if len(labels) == len(masks.numbers) == 1 and masks.numbers | labels.keys() <= either:
        return MaskSet(index=masks.mask(*masks.numbers) * np.uint8(*labels))
    if masks.numbers != {WHITE}:
        masks = without_void(masks, labels, rule)
    if unknown := masks.numbers - labels.keys():
        raise DatasetError(
            f"{path} has object {max(unknown)}, but the objects are {', '.join(labels.values())}: pixel values "
            "must be object numbers, as in the ground truth"
        )
    return masks


def write_prediction(folder: Path, frame: str, labels: Mapping[int, str], masks: MaskSet) -> None:
    """Write one frame as `read_prediction` reads it."""
    if masks.index is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_index_png(folder / f"{frame}.png", masks.index)
        return
    for number, label in labels.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        mask = masks.apart.get(number)
        assert mask is not None
        write_index_png(folder / label / f"{frame}.png", mask.astype(np.uint8))


def list_names(paths: Iterable[Path]) -> str:
    """Return a few file names for a message."""
    names = sorted(path.name for path in paths)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
