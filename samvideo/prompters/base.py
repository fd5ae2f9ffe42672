"""The interface of automatic prompters, and what they have in common. NumPy only."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from samvideo.geometry import Box4, mask_box
from samvideo.types import BoolArray, Box, FloatArray, Points, UInt8Array, check_label

Boxes = NDArray[np.float32]
MEASURED_PIXELS = 2**18
"""Of masks whose overlap is measured, at most."""


@dataclass(frozen=True, eq=False)
class MaskProposal:
    """An object that was found in an image.

    Attributes:
        mask: bool (H, W) at the size of the image.
        quality: predicted IoU; not all models keep it in [0, 1].
        stability: IoU of the mask with itself at a lower and a higher threshold; NaN where it was not measured.
        prompt: the click or box that made it, in pixels of the image; None if an instance segmenter found it.
        crop: x1, y1, x2, y2 of the part of the image in which it was found.
        label: name of its class, where it is known.
        score: confidence of the detector, where there was one.
    """

    mask: BoolArray
    quality: float
    stability: float
    prompt: Points | Box | None
    crop: Box4
    label: str | None = None
    score: float | None = None

    def __post_init__(self) -> None:
        if self.label is not None:
            object.__setattr__(self, "label", check_label(self.label))

    @property
    def box(self) -> Box4 | None:
        """The tightest box (x1, y1, x2, y2) around the mask, None if it is empty."""
        return mask_box(self.mask)

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return int(self.mask.sum())


class AutoPrompter(Protocol):
    """Finds objects. The suite in `tests/contracts/test_prompter.py` runs over all."""

    def propose(self, rgb: UInt8Array) -> list[MaskProposal]:
        """Propose the objects of an image, uint8 (H, W, 3), the best first unless the method has another order."""
        ...


@runtime_checkable
class BoxFinder(AutoPrompter, Protocol):
    """A prompter that rates by objectness, and finds boxes alone at a fraction of the cost of masks."""

    def find_boxes(self, rgb: UInt8Array) -> tuple[Boxes, FloatArray]:
        """(N, 4) boxes x1, y1, x2, y2 in pixels of an image and their (N,) objectness, the highest first."""
        ...


@dataclass(frozen=True)
class MaskFilter:
    """Which masks are kept.

    Attributes:
        quality: their predicted IoU is above this; 0 keeps all.
        stability: their stability is at least this; 0 keeps all.
        offset: change of the logits' threshold by which stability is measured.
    """

    quality: float = 0.88
    stability: float = 0.95
    offset: float = 1.0


PUBLISHED = MaskFilter()
"""As SAM's automatic mask generator filters."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A mask that passed a filter, packed.

    Attributes:
        bits: `numpy.packbits` of the mask in its crop.
        crop: x1, y1, x2, y2 in whole pixels of the image.
        box: x1, y1, x2, y2 in pixels of the crop: first and last columns and rows with a pixel of the mask.
        quality, stability: see `MaskProposal`.
        xy: clicks of the prompt that made it, or two corners of a box, in pixels of the crop.
    """

    bits: UInt8Array
    crop: tuple[int, int, int, int]
    box: tuple[int, int, int, int]
    quality: float
    stability: float
    xy: tuple[tuple[float, float], ...]

    @property
    def box_in_image(self) -> tuple[int, int, int, int]:
        """The box in pixels of the image."""
        left, top = self.crop[:2]
        x1, y1, x2, y2 = self.box
        return x1 + left, y1 + top, x2 + left, y2 + top

    def unpack(self, size_wh: tuple[int, int]) -> BoolArray:
        """Return the mask in an image of `size_wh`: bool (H, W)."""
        x1, y1, x2, y2 = self.crop
        width, height = x2 - x1, y2 - y1
        inside = np.unpackbits(self.bits, count=width * height).reshape(height, width).view(bool)
        if (width, height) == size_wh:
            return inside
        whole = np.zeros(size_wh[::-1], bool)
        whole[y1:y2, x1:x2] = inside
        return whole

    def proposal(self, size_wh: tuple[int, int]) -> MaskProposal:
        """Return it as a proposal for an image of `size_wh`."""
        left, top, right, bottom = (float(side) for side in self.crop)
        places = [(x + left, y + top) for x, y in self.xy]
        prompt = Points(places) if len(places) == 1 else box_prompt((*places[0], *places[1]))
        return MaskProposal(self.unpack(size_wh), self.quality, self.stability, prompt, (left, top, right, bottom))


def box_prompt(box: Box4) -> Box:
    """A box as a prompt; one inside of the top-left pixel, which is refused as shares of an image, is all of it."""
    return Box(box if max(box) > 1 else (0.0, 0.0, 1.0, 1.0))


class PromptedImage(Protocol):
    """A part of an image in a model, encoded once for any number of prompts."""

    def masks(self, xy_bn2: NDArray[np.float64], labels_bn: NDArray[np.int64], keep: MaskFilter) -> list[Candidate]:
        """Segment by B prompts of N points each, in the order of the prompts, and of the masks of each.

        Args:
            xy_bn2: in pixels of the part.
            labels_bn: 1 is on the object, 2 and 3 are corners of a box. A single click has several masks.
            keep: which masks.
        """
        ...

    def union(
        self, xy_bn2: NDArray[np.float64], labels_bn: NDArray[np.int64], keep: MaskFilter, above: float
    ) -> tuple[list[Candidate], BoolArray]:
        """As `masks`, and where logits of the masks that are kept are greater than `above`: bool (H, W)."""
        ...


Embed = Callable[[UInt8Array, tuple[int, int, int, int]], PromptedImage]
"""Encodes a part (x1, y1, x2, y2) of an image."""


def inclusive_box(mask: BoolArray) -> tuple[int, int, int, int]:
    """Return first and last columns and rows with a pixel of the mask; zeros for an empty one."""
    x1, y1, x2, y2 = mask_box(mask) or (0, 0, 1, 1)
    return int(x1), int(y1), int(x2) - 1, int(y2) - 1


def suppress(boxes: Boxes, scores: NDArray[np.floating], most: float) -> NDArray[np.int64]:
    """Non-maximum suppression of boxes.

    Args:
        boxes: (N, 4) x1, y1, x2, y2.
        scores: (N,); of two boxes that overlap too much, the one with the lower score goes.
        most: IoU of two boxes that both stay.

    Returns:
        Indices of those that stay, by descending score; of equal scores, the earlier one is first.
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    x1, y1, x2, y2 = np.asarray(boxes, np.float32)[order].reshape(-1, 4).T
    areas = (x2 - x1) * (y2 - y1)
    left = np.ones(len(order), bool)
    for row in range(len(order)):
        if not left[row]:
            continue
        rest = row + 1 + np.flatnonzero(left[row + 1 :])
        width = np.minimum(x2[row], x2[rest]) - np.maximum(x1[row], x1[rest])
        height = np.minimum(y2[row], y2[rest]) - np.maximum(y1[row], y1[rest])
        shared = width.clip(0) * height.clip(0)
        with np.errstate(invalid="ignore"):  # two boxes without area do not overlap
            left[rest[shared / (areas[row] + areas[rest] - shared) > most]] = False
    kept: NDArray[np.int64] = order[left]
    return kept


def suppress_masks(masks: Sequence[BoolArray], scores: NDArray[np.floating], most: float) -> NDArray[np.int64]:
    """As `suppress`, by the IoU of masks (H, W), which is measured on every n-th row and column of large ones."""
    if not len(masks):
        return np.zeros(0, np.int64)
    order = np.argsort(-np.asarray(scores), kind="stable")
    step = math.ceil(math.sqrt(masks[0].size / MEASURED_PIXELS))
    flat = np.stack([masks[row][::step, ::step].ravel() for row in order]).astype(np.float32)
    shared, areas = flat @ flat.T, flat.sum(1)
    overlap = shared / np.maximum(areas[:, None] + areas - shared, 1)
    kept: list[int] = []
    for row in range(len(order)):
        if not (overlap[row, kept] > most).any():
            kept.append(row)
    return np.asarray(order[kept], np.int64)


def suppressed(found: Sequence[Candidate], scores: Sequence[float], most: float) -> list[Candidate]:
    """Return candidates that stay, in the order of `suppress`, by their boxes in the image."""
    boxes = np.array([one.box_in_image for one in found], np.float32).reshape(-1, 4)
    return [found[row] for row in suppress(boxes, np.array(scores, np.float32), most)]
