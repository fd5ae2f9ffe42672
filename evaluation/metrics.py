"""The benchmarks' metrics, one frame at a time: exact ratios of integers, computed on as few pixels as possible.

Region similarity J and boundary accuracy F are those of the DAVIS challenges (Perazzi et al., CVPR 2016, and
davisvideochallenge/davis2017-evaluation: metrics.py); the SA-V rule for objects that have not yet been seen is that of
facebookresearch/sam2: sav_dataset/utils/sav_benchmark.py. Only the part of the frame around both masks can count,
so everything is computed there; tests hold the numbers to the published evaluators'.
"""

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from samvideo.errors import DatasetError
from samvideo.types import UInt8Array

BOUNDARY_TOLERANCE = 0.008
"""How far a boundary may be off, as a part of the image diagonal (bound_th of the DAVIS code)."""

_SQUARE = np.ones((2, 2), np.uint8)


class FrameScore(NamedTuple):
    """One object on one frame: J, F and Dice, fractions in [0, 1]."""

    j: float
    f: float
    dice: float


def boundary_radius(shape_hw: tuple[int, int]) -> int:
    """Pixels that a boundary may be off in a frame of this size."""
    return math.ceil(BOUNDARY_TOLERANCE * math.sqrt(shape_hw[0] ** 2 + shape_hw[1] ** 2))


def score_masks(truth: UInt8Array, prediction: UInt8Array) -> FrameScore:
    """J, F and Dice of one object's mask on one frame; both empty counts as perfect.

    Args:
        truth, prediction: uint8 (H, W), zero outside; inside, one and the same value throughout both arrays.

    Raises:
        DatasetError: the sizes differ.
    """
    if truth.shape != prediction.shape:
        raise DatasetError(
            f"the prediction is {prediction.shape[1]}x{prediction.shape[0]}, the ground truth "
            f"{truth.shape[1]}x{truth.shape[0]}: masks must be saved at the ground truth's size"
        )
    part = _around(cv2.boundingRect(truth), cv2.boundingRect(prediction), truth.shape)
    if part is None:
        return FrameScore(1.0, 1.0, 1.0)
    height, width = truth.shape
    truth, prediction = truth[part], prediction[part]
    areas = cv2.countNonZero(truth) + cv2.countNonZero(prediction)
    common = cv2.countNonZero(cv2.bitwise_and(truth, prediction))
    boundary_score = _boundary_score(truth, prediction, boundary_radius((height, width)))
    return FrameScore(common / (areas - common), boundary_score, 2 * common / areas)


def _around(
    first: tuple[int, int, int, int] | list[int], second: tuple[int, int, int, int] | list[int], shape: tuple[int, ...]
) -> tuple[slice, slice] | None:
    """The part of the frame that holds both boxes (x, y, w, h) and the pixels next to them; None when both are empty.

    One pixel more on each side is enough: boundary pixels lie on the mask or just left of or above it, and beyond
    the part's last row and column both masks are empty, as they are beyond the first ones.
    """
    boxes = [box for box in (first, second) if box[2]]
    if not boxes:
        return None
    top, left = min(box[1] for box in boxes), min(box[0] for box in boxes)
    bottom, right = max(box[1] + box[3] for box in boxes), max(box[0] + box[2] for box in boxes)
    return slice(max(top - 1, 0), min(bottom + 1, shape[0])), slice(max(left - 1, 0), min(right + 1, shape[1]))


def _boundary(mask: UInt8Array) -> UInt8Array:
    """Non-zero where a pixel differs from its right, lower or lower-right neighbour (seg2bmap of the DAVIS code).

    OpenCV leaves neighbours outside the image out of both minimum and maximum, which is what seg2bmap's special
    cases for the last row and column come to.
    """
    edges: UInt8Array = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, _SQUARE, anchor=(0, 0))  # type: ignore[assignment]
    return edges


def _boundary_score(truth: UInt8Array, prediction: UInt8Array, radius: int) -> float:
    truth_edge, predicted_edge = _boundary(truth), _boundary(prediction)
    truth_count, predicted_count = cv2.countNonZero(truth_edge), cv2.countNonZero(predicted_edge)
    if not truth_count or not predicted_count:
        # One of the two has no boundary at all: precision or recall is zero, unless neither has (a full frame).
        return float(truth_count == predicted_count)
    disk = _disk(radius)
    precision = cv2.countNonZero(cv2.bitwise_and(predicted_edge, cv2.dilate(truth_edge, disk))) / predicted_count
    recall = cv2.countNonZero(cv2.bitwise_and(truth_edge, cv2.dilate(predicted_edge, disk))) / truth_count
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@lru_cache(maxsize=32)
def _disk(radius: int) -> UInt8Array:
    steps = np.arange(-radius, radius + 1)
    disk: UInt8Array = (steps[:, None] ** 2 + steps**2 <= radius**2).astype(np.uint8)
    return disk


class Statistics(NamedTuple):
    """Mean, recall (part of the frames above one half) and decay (first quarter less last) of per-frame scores."""

    mean: float
    recall: float
    decay: float


def statistics(values: list[float]) -> Statistics:
    """The DAVIS statistics of one object's scores (davis2017-evaluation: utils.py, db_statistics); nan when empty.

    Quarters share their border frames, as published. The published code keeps frame numbers in eight bits, which
    breaks beyond 256 frames; here they do not overflow.
    """
    if not values:
        return Statistics(math.nan, math.nan, math.nan)
    scores = np.asarray(values, np.float64)
    ends = (np.round(np.linspace(1, len(scores), 5) + 1e-10) - 1).astype(int)
    first, last = scores[ends[0] : ends[1] + 1], scores[ends[3] : ends[4] + 1]
    return Statistics(float(scores.mean()), float((scores > 0.5).mean()), float(first.mean() - last.mean()))


@dataclass
class ObjectScores:
    """Collects one object's scores, frame by frame.

    Attributes:
        wait_until_seen: leave frames out until the object was once in the truth or the prediction, as the SA-V
            evaluator does; else every frame counts, absent in both being perfect.
        frames, j, f, dice: what was scored so far, parallel lists.
    """

    wait_until_seen: bool = False
    frames: list[str] = field(default_factory=list)
    j: list[float] = field(default_factory=list)
    f: list[float] = field(default_factory=list)
    dice: list[float] = field(default_factory=list)

    def add(self, frame: str, truth: UInt8Array, prediction: UInt8Array) -> None:
        """Score one frame; masks as in `score_masks`."""
        if self.wait_until_seen and not self.frames and not truth.any() and not prediction.any():
            return
        score = score_masks(truth, prediction)
        self.frames.append(frame)
        self.j.append(score.j)
        self.f.append(score.f)
        self.dice.append(score.dice)


@dataclass
class ClassScores:
    """The EndoVis instrument metrics, frame by frame (BCV-Uniandes/ISINet's evaluation, which the field follows).

    Challenge IoU: per frame the mean IoU of the classes in its ground truth, over frames that have any.
    Class IoU (ISI): per frame the mean over classes in truth or prediction, over frames that have any.
    Mean class IoU: a class's IoU over the frames where it is in truth or prediction, averaged over the classes.
    """

    challenge: list[float] = field(default_factory=list)
    present: list[float] = field(default_factory=list)
    classes: dict[int, list[float]] = field(default_factory=dict)

    def add(self, ious: dict[int, float], in_truth: set[int]) -> None:
        """Take one frame: the IoU of each class in truth or prediction, and which of them are in the truth."""
        for number, iou in ious.items():
            self.classes.setdefault(number, []).append(iou)
        if ious:
            self.present.append(float(np.mean(list(ious.values()))))
        if in_truth:
            self.challenge.append(float(np.mean([ious[number] for number in sorted(in_truth)])))

    def merge(self, other: "ClassScores") -> None:
        """Take in the frames of another video."""
        self.challenge += other.challenge
        self.present += other.present
        for number, ious in other.classes.items():
            self.classes.setdefault(number, []).extend(ious)

    def conclude(self) -> dict[str, float]:
        """The three numbers as fractions: challenge_iou, class_iou, mean_class_iou; nan without any frame."""
        per_class = [float(np.mean(self.classes[number])) for number in sorted(self.classes)]
        return {
            "challenge_iou": _mean(self.challenge),
            "class_iou": _mean(self.present),
            "mean_class_iou": _mean(per_class),
        }


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else math.nan
