"""What a model says of its own masks, against the ground truth: presence, and predicted against reached IoU.

An object is reported absent where its mask is empty. The calibration error is the expected one (Guo et al., ICML
2017), of ten bins of equal width.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

BINS = 10
SOON = 3
"""Frames within which an object that comes back is to be found again."""
FOUND = 0.5
"""J of an object that is found, as in the recall of DAVIS."""
PRESENCE = ("absent_reported", "present_missed", "found_again")
CALIBRATION = "calibration_error"


class Bin(NamedTuple):
    """Predictions of a bin: their mean, the mean of what was reached, and how many they are."""

    predicted: float
    reached: float
    size: int


def bins(predicted: ArrayLike, reached: ArrayLike) -> list[Bin]:
    """Group predictions from 0 to 1 into `BINS` bins of equal width, without the empty ones."""
    said, got = np.asarray(predicted, np.float64), np.asarray(reached, np.float64)
    numbers = np.minimum((said * BINS).astype(int), BINS - 1)
    parts = [numbers == number for number in np.unique(numbers)]
    return [Bin(float(said[part].mean()), float(got[part].mean()), int(part.sum())) for part in parts]


def calibration_error(predicted: ArrayLike, reached: ArrayLike) -> float | None:
    """Return the mean distance of `reached` from `predicted` over bins, weighted by their size; None of none."""
    found = bins(predicted, reached)
    total = sum(one.size for one in found)
    return sum(one.size * abs(one.predicted - one.reached) for one in found) / total if total else None


def predictions(objects: Iterable[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    """Predicted and reached J of all objects of videos, on frames where the object or its mask has pixels."""
    rows = [
        (said, j)
        for found in objects
        if found.get("predicted")
        for said, j, *areas in zip(found["predicted"], found["J"], found["area"], found["mask_area"], strict=True)
        if any(areas)
    ]
    return [said for said, _ in rows], [j for _, j in rows]


def calibration(objects: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the calibration error of a tracker, by the name of the score; nothing if it predicts nothing."""
    error = calibration_error(*predictions(objects))
    return {} if error is None else {CALIBRATION: error}


def presence(objects: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return what is reported of objects that are absent from some frames; nothing if none is.

    absent_reported: share of the frames without the object on which it has no mask.
    present_missed: share of the frames with the object on which it has no mask.
    found_again: share of the returns after which J exceeds `FOUND` within `SOON` frames, if they last as long.
    """
    masked: dict[bool, list[bool]] = {True: [], False: []}
    again: list[bool] = []
    for found in (one for one in objects if one.get("area")):
        for area, mask_area in zip(found["area"], found["mask_area"], strict=True):
            masked[area > 0].append(mask_area > 0)
        spans = [(there, list(span)) for there, span in groupby(enumerate(found["area"]), lambda row: row[1] > 0)]
        for _, (there, span) in pairwise(spans):
            if there and len(span) >= SOON:
                again.append(max(found["J"][index] for index, _ in span[:SOON]) > FOUND)
    if not masked[False]:
        return {}
    shares = 1 - _mean(masked[False]), 1 - _mean(masked[True]), _mean(again)
    return {name: None if math.isnan(value) else value for name, value in zip(PRESENCE, shares, strict=True)}


def _mean(values: Sequence[bool]) -> float:
    return float(np.mean(values)) if values else math.nan
