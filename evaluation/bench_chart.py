"""The chart of a benchmark's results."""

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from samvideo.errors import ConfigError
from samvideo.evaluation.bench import PARTS
from samvideo.evaluation.results import read_results
from samvideo.reporting.charts import COLOURS, Dot, Series, accuracy_against_speed, curves_from_zero

Case = dict[str, Any]

AXES: dict[str, Callable[[Case], float]] = {
    "objects": lambda case: case["objects"],
    "prompted frames": lambda case: case["prompted"],
    "input side": lambda case: case["input_wh"][0],
}


def draw(document: dict[str, Any], evaluated: Sequence[Path] = ()) -> str:
    """Draw the results as one SVG.

    The chart shows time against the first that varies of objects, prompted frames and the input's side; else
    accuracy against speed of the models in `evaluated`; else time against the frame number, if enough frames were
    timed.

    Args:
        document: what `bench` returns.
        evaluated: results of `samvideo evaluate`.

    Raises:
        ConfigError: there is nothing to draw.
    """
    cases: list[Case] = document["cases"]
    axis = next((name for name, of in AXES.items() if len({of(case) for case in cases}) > 1), None)
    if axis is not None:
        return _time_against(axis, cases)
    trees = map(read_results, evaluated)
    results = {_name(tree["model"]["name"], tree["model"]["options"]): tree["scores"] for tree in trees}
    key = next((key for key in ("J&F", "J_mean") if any(scores.get(key) for scores in results.values())), "")
    dots = [
        Dot(name, case["fps"], 100 * results[name][key], colour)
        for case, colour in zip(cases, cycle(COLOURS), strict=False)
        if results.get(name := _name(case["model"], case), {}).get(key)
    ]
    if dots:
        return accuracy_against_speed("accuracy against speed", dots, f"{key}, %")
    if min(len(case["course"]) for case in cases) == PARTS:
        labels = [_name(f"{case['model']} {case['input_wh'][0]} {case['dtype']}", case) for case in cases]
        return _curves({label: case["course"] for label, case in zip(labels, cases, strict=True)}, "frames")
    raise ConfigError(
        "nothing to draw: give several --objects, --prompted or --sizes, results of these models with "
        f"--accuracy, or {PARTS} --frames and more"
    )


def _name(model: str, options: Mapping[str, Any]) -> str:
    """Of a model, with the policy if one was chosen."""
    return f"{model}, {options['policy']}" if options.get("policy") else model


def _time_against(axis: str, cases: Sequence[Case]) -> str:
    points: dict[str, list[tuple[float, float]]] = {}
    for case in cases:
        size = "" if axis == "input side" else f" {case['input_wh'][0]}"
        label = _name(f"{case['model']}{size} {case['dtype']}", case)
        points.setdefault(label, []).append((AXES[axis](case), case["seconds"]["p50"]))
    return _curves(points, axis)


def _curves(points: dict[str, list[tuple[float, float]]], axis: str) -> str:
    series = [
        Series(label, colour, *zip(*values, strict=True))
        for (label, values), colour in zip(points.items(), cycle(COLOURS), strict=False)
    ]
    return curves_from_zero(series, axis, "seconds a frame")
