"""The benchmarks' metrics, one frame at a time: exact ratios of integers, computed on as few pixels as possible.

Region similarity J and boundary accuracy F are those of the DAVIS challenges (Perazzi et al., CVPR 2016, and
davisvideochallenge/davis2017-evaluation: metrics.py); those of SA-V are the same numbers. Only the
part of the frame around both masks can count, so everything is computed there. Tests compare with the published
evaluators.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np

from samvideo.errors import DatasetError
from samvideo.evaluation.bits import boundaries, count, dilate, pack, trim
from samvideo.types import BoolArray, UInt8Array

BOUNDARY_TOLERANCE = 0.008
"""Tolerated distance between boundaries as a fraction of the image diagonal (bound_th of the DAVIS code)."""

_STACKING_PAYS = 40_000  # pixels of padding that cost less than handling an object on its own


class FrameScore(NamedTuple):
    """One object on one frame: J, F and Dice, fractions in [0, 1]."""

    j: float
    f: float
    dice: float


_PERFECT = FrameScore(1.0, 1.0, 1.0)


def boundary_radius(shape_hw: tuple[int, ...]) -> int:
    """Return the tolerated distance between boundaries in pixels, for a frame of this size."""
    return math.ceil(BOUNDARY_TOLERANCE * math.sqrt(shape_hw[0] ** 2 + shape_hw[1] ** 2))


Pair = tuple[UInt8Array | BoolArray, UInt8Array | BoolArray]
Part = tuple[slice, slice]


def score_masks(truth: UInt8Array | BoolArray, prediction: UInt8Array | BoolArray) -> FrameScore:
    """J, F and Dice of one object's mask on one frame; both empty counts as perfect.

    Args:
        truth, prediction: uint8 or bool (H, W), zero outside, one inside.

    Raises:
        DatasetError: the sizes differ.
    """
    _check_sizes(truth, prediction)
    x, y, width, height = cv2.boundingRect(cv2.bitwise_or(truth.view(np.uint8), prediction.view(np.uint8)))
    if not width:
        return _PERFECT
    part = _with_neighbours(x, y, x + width, y + height, truth.shape)
    return next(_score_parts([(truth[part], prediction[part])], [_borders(part, truth.shape)], truth.shape))


def score_indices(truth: UInt8Array, prediction: UInt8Array, objects: Sequence[int]) -> list[FrameScore]:
    """Score all objects of one frame given as object numbers per pixel: as `score_masks` for each, but much faster.

    Args:
        truth, prediction: uint8 (H, W).
        objects: the numbers to score, from 1 to 255.

    Raises:
        DatasetError: the sizes differ.
    """
    _check_sizes(truth, prediction)
    scores = dict.fromkeys(objects, _PERFECT)
    parts = _object_parts(truth, prediction, objects)
    for group in _group_by_size(parts):
        pairs = [(truth[parts[k]] == k, prediction[parts[k]] == k) for k in group]
        bordering = [_borders(parts[k], truth.shape) for k in group]
        scores.update(zip(group, _score_parts(pairs, bordering, truth.shape), strict=True))
    return [scores[number] for number in objects]


def _check_sizes(truth: UInt8Array | BoolArray, prediction: UInt8Array | BoolArray) -> None:
    if truth.shape != prediction.shape:
        raise DatasetError(
            f"the prediction is {prediction.shape[1]}x{prediction.shape[0]}, the ground truth "
            f"{truth.shape[1]}x{truth.shape[0]}: masks must be saved at the ground truth's size"
        )


def _with_neighbours(left: int, top: int, right: int, bottom: int, shape: tuple[int, ...]) -> Part:
    """Return the part of the frame that can count if both masks are within this box.

    One more pixel on each side is enough: boundary pixels are on the mask or just left of or above it, and beyond
    the part's last row and column both masks are empty, as they are beyond the first ones.
    """
    return slice(max(top - 1, 0), min(bottom + 1, shape[0])), slice(max(left - 1, 0), min(right + 1, shape[1]))


def _object_parts(truth: UInt8Array, prediction: UInt8Array, objects: Sequence[int]) -> dict[int, Part]:
    """Return the part of the frame with each object of truth or prediction; eight objects are searched at once."""
    left, top, width, height = cv2.boundingRect(cv2.bitwise_or(truth, prediction))
    if not width:
        return {}
    if len(objects) == 1:
        return {objects[0]: _with_neighbours(left, top, left + width, top + height, truth.shape)}
    box = slice(top, top + height), slice(left, left + width)
    parts = {}
    for start in range(0, len(objects), 8):
        eight = objects[start : start + 8]
        table = np.zeros(256, np.uint8)
        table[list(eight)] = 1 << np.arange(len(eight))
        seen = cv2.bitwise_or(cv2.LUT(truth[box], table), cv2.LUT(prediction[box], table))
        in_rows, in_columns = np.bitwise_or.reduce(seen, 1), np.bitwise_or.reduce(seen, 0)
        for number in eight:
            x, _, width, _ = cv2.boundingRect((in_columns & table[number])[None])
            y, _, height, _ = cv2.boundingRect((in_rows & table[number])[None])
            if width:
                x, y = x + left, y + top
                parts[number] = _with_neighbours(x, y, x + width, y + height, truth.shape)
    return parts


def _group_by_size(parts: dict[int, Part]) -> list[list[int]]:
    """Group objects of similar size; a small mask packed together with a large one is mostly padding."""
    sizes = {
        number: (rows.stop - rows.start, columns.stop - columns.start) for number, (rows, columns) in parts.items()
    }
    groups: list[list[int]] = []
    filled = high = wide = 0
    for number in sorted(sizes, key=lambda number: -sizes[number][0] * sizes[number][1]):
        rows, columns = sizes[number]
        high, wide, filled = max(high, rows), max(wide, columns), filled + rows * columns
        if not groups or (len(groups[-1]) + 1) * high * wide > 2 * filled + _STACKING_PAYS:
            groups.append([])
            high, wide, filled = rows, columns, rows * columns
        groups[-1].append(number)
    return groups


def _borders(part: Part, shape: tuple[int, ...]) -> bool:
    """Return whether a part ends at the right or lower border of its frame."""
    return bool(part[0].stop == shape[0] or part[1].stop == shape[1])


def _score_parts(pairs: list[Pair], bordering: list[bool], shape: tuple[int, ...]) -> Iterator[FrameScore]:
    masks = [mask for pair in pairs for mask in pair]
    both = [at_border for at_border in bordering for _ in range(2)]
    radius = boundary_radius(shape)
    packed = pack(masks, radius, both)
    edges = boundaries(packed)
    trim(packed, masks, both)
    trim(edges, masks, both)
    near = dilate(edges, radius)
    common = packed[::2] & packed[1::2]
    found, recalled = edges[1::2] & near[::2], edges[::2] & near[1::2]
    for number in range(len(pairs)):
        truth, prediction = 2 * number, 2 * number + 1
        shared, areas = count(common[number]), count(packed[truth : prediction + 1])
        boundary = _f(count(found[number]), count(edges[prediction]), count(recalled[number]), count(edges[truth]))
        if areas:
            yield FrameScore(shared / (areas - shared), boundary, 2 * shared / areas)
        else:
            yield _PERFECT


def _f(found: int, predicted: int, recalled: int, true: int) -> float:
    if not predicted or not true:
        # One of them has no boundary: precision or recall is zero, unless both have none (both fill the frame).
        return float(predicted == true)
    precision, recall = found / predicted, recalled / true
    return 2 * precision * recall / (precision + recall) if found or recalled else 0.0


class Statistics(NamedTuple):
    """Mean, recall (fraction of frames above one half) and decay (first quarter minus last) of per-frame scores."""

    mean: float
    recall: float
    decay: float


def statistics(values: list[float]) -> Statistics:
    """Return the DAVIS statistics of the scores of an object, NaN without scores.

    As in davis2017-evaluation (utils.py, db_statistics), quarters share their border frames. The published code
    keeps frame numbers in eight bits, which breaks beyond 256 frames; here they do not overflow.
    """
    if not values:
        return Statistics(math.nan, math.nan, math.nan)
    scores = np.asarray(values, np.float64)
    ends = (np.round(np.linspace(1, len(scores), 5) + 1e-10) - 1).astype(int)
    first, last = scores[ends[0] : ends[1] + 1], scores[ends[3] : ends[4] + 1]
    return Statistics(float(scores.mean()), float((scores > 0.5).mean()), float(first.mean() - last.mean()))


@dataclass
class ObjectScores:
    """Scores of an object by frame, as lists of equal length.

    Attributes:
        frames: their names.
        j, f, dice: fractions.
        area, mask_area: pixels of the ground truth and of the mask.
        predicted: the tracker's confidence in the mask, its prediction of J; empty for masks made elsewhere.
    """

    frames: list[str] = field(default_factory=list)
    j: list[float] = field(default_factory=list)
    f: list[float] = field(default_factory=list)
    dice: list[float] = field(default_factory=list)
    area: list[int] = field(default_factory=list)
    mask_area: list[int] = field(default_factory=list)
    predicted: list[float] = field(default_factory=list)

    def add(
        self, frame: str, score: FrameScore, areas: tuple[int, int] = (0, 0), predicted: float | None = None
    ) -> None:
        """Add one frame."""
        self.frames.append(frame)
        self.j.append(score.j)
        self.f.append(score.f)
        self.dice.append(score.dice)
        self.area.append(areas[0])
        self.mask_area.append(areas[1])
        if predicted is not None:
            self.predicted.append(predicted)


@dataclass
class ClassScores:
    """The EndoVis instrument metrics, as in the evaluation of BCV-Uniandes/ISINet, which the field follows.

    Challenge IoU: per frame the mean IoU of the classes in its ground truth, over frames that have any.
    Class IoU (ISI): per frame the mean IoU of the classes in truth or prediction, over frames that have any.
    Mean class IoU: mean IoU of a class over the frames with it in truth or prediction, averaged over the classes.
    """

    challenge: list[float] = field(default_factory=list)
    present: list[float] = field(default_factory=list)
    classes: dict[str, list[float]] = field(default_factory=dict)

    def add(self, ious: Mapping[str, float], in_truth: Collection[str]) -> None:
        """Add one frame: the IoU of each class in truth or prediction, and which of them are in the truth."""
        for name, iou in ious.items():
            self.classes.setdefault(name, []).append(iou)
        if ious:
            self.present.append(float(np.mean(list(ious.values()))))
        if in_truth:
            self.challenge.append(float(np.mean([ious[name] for name in sorted(in_truth)])))

    def merge(self, other: "ClassScores") -> None:
        """Add the frames of another video."""
        self.challenge += other.challenge
        self.present += other.present
        for name, ious in other.classes.items():
            self.classes.setdefault(name, []).extend(ious)

    def conclude(self) -> dict[str, float | None]:
        """Return the three metrics as fractions, None without frames."""
        per_class = [float(np.mean(self.classes[name])) for name in sorted(self.classes)]
        found = {"challenge_iou": self.challenge, "class_iou": self.present, "mean_class_iou": per_class}
        return {name: float(np.mean(values)) if values else None for name, values in found.items()}
