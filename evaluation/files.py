"""Mask files of a benchmark: read strictly, so that every error names path and remedy, and written."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from samvideo.errors import DatasetError
from samvideo.evaluation.metrics import FrameScore, score_indices, score_masks
from samvideo.io.masks import write_index_png
from samvideo.types import BoolArray, UInt8Array


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
    def numbers(self) -> set[int]:
        """Numbers of the objects whose masks are not empty."""
        if self.index is not None:
            return {int(number) for number in np.flatnonzero(np.bincount(self.index.reshape(-1))) if number}
        return {number for number, mask in self.apart.items() if mask.any()}

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


def read_index_png(path: Path) -> UInt8Array:
    """Read the values of a palette or grey PNG, uint8 (H, W).

    Raises:
        DatasetError: the file is missing, unreadable, or a colour image.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L", "1"):
                raise DatasetError(
                    f"{path} is a colour image (mode {image.mode}): a palette or grey PNG expected, whose values "
                    "are object numbers; convert it with the data set's colour table"
                )
            return np.asarray(image, np.uint8)
    except FileNotFoundError:
        raise DatasetError(f"{path} is missing: restore it from the archive it came from") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DatasetError(
            f"{path} cannot be read ({error}): replace it by a fresh copy from the archive"
        ) from error


def read_binary_png(path: Path) -> BoolArray:
    """Read the mask of one object: all values but zero.

    Raises:
        DatasetError: as `read_index_png`, or there is more than one value besides zero.
    """
    values = read_index_png(path)
    if np.count_nonzero(np.bincount(values.reshape(-1), minlength=2)[1:]) > 1:
        raise DatasetError(f"{path} holds several objects: one object per file and folder expected here")
    return values > 0


def read_prediction(folder: Path, frame: str, labels: Mapping[int, str], apart: bool) -> MaskSet:
    """Read the predictions of one frame: `<frame>.png`, or `<label>/<frame>.png` for each object if `apart`.

    Raises:
        DatasetError: a file is missing, unreadable, or has an object that does not exist.
    """
    if apart:
        return MaskSet(apart={k: read_binary_png(folder / label / f"{frame}.png") for k, label in labels.items()})
    path = folder / f"{frame}.png"
    index = read_index_png(path)
    if strange := set(np.flatnonzero(np.bincount(index.reshape(-1))).tolist()) - labels.keys() - {0}:
        if labels.keys() == {1} and strange == {255}:
            return MaskSet(index=(index > 0).astype(np.uint8))
        raise DatasetError(
            f"{path} has object {max(strange)}, but the objects are {', '.join(labels.values())}: pixel values "
            "must be object numbers, as in the ground truth"
        )
    return MaskSet(index=index)


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
