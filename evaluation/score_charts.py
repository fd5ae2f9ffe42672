"""Charts of a report beyond its scores: predicted against reached IoU, and J by the object's size."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle, pairwise

from samvideo.evaluation.confidence import bins, calibration_error, predictions
from samvideo.evaluation.score_tables import ComparedRun
from samvideo.reporting.charts import COLOURS, GREY, Series, bars_by_row, curves_from_zero

SIDES = (0, 16, 32, 64, 128, math.inf)
"""Bounds of sizes in pixels: of the side of a square with the object's area."""
Predictions = tuple[list[float], list[float]]
"""Predicted and reached IoU of the same masks."""


def reliability_chart(title: str, measured: Iterable[tuple[str, Predictions]]) -> str:
    """Chart the mean IoU reached against the predicted one, for each label; empty if nothing was predicted."""
    curves = []
    for (label, (predicted, reached)), colour in zip(measured, cycle(COLOURS), strict=False):
        if (error := calibration_error(predicted, reached)) is not None:
            found = bins(predicted, reached)
            x, y = [one.predicted for one in found], [one.reached for one in found]
            curves.append(Series(f"{label}, error {error:.3f}", colour, x, y))
    ideal = Series("ideal", GREY, (0, 1), (0, 1))
    return curves_from_zero([*curves, ideal], "predicted IoU", f"{title}: reached IoU") if curves else ""


def tracking_predictions(runs: Sequence[ComparedRun]) -> list[tuple[str, Predictions]]:
    """The predictions of runs on videos, by their labels."""
    return [(run.label, predictions(_objects(run))) for run in runs]


def size_chart(title: str, runs: Sequence[ComparedRun]) -> str:
    """Chart the mean J in percent on frames with the object, by its size; empty if no run has sizes."""
    rows = []
    for low, high in pairwise(SIDES):
        name = f"{low} to {high} pixels" if math.isfinite(high) else f"from {low} pixels"
        scores = [[j for side, j in _sides(run) if low <= side < high] for run in runs]
        if any(scores):
            rows.append((name, [100 * sum(values) / len(values) if values else None for values in scores]))
    return bars_by_row(f"{title}: J by size of the object", rows, [run.colour for run in runs]) if rows else ""


def _objects(run: ComparedRun) -> Iterator[dict[str, list[float]]]:
    for sequence in run.results["sequences"].values():
        yield from sequence["objects"].values()


def _sides(run: ComparedRun) -> Iterator[tuple[float, float]]:
    """Yield size and J of each frame that shows its object."""
    for found in _objects(run):
        for area, j in zip(found.get("area") or (), found["J"], strict=False):
            if area:
                yield math.sqrt(area), j
