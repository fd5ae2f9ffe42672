"""Measure runtimes beside each other: the time of a frame, and how much the masks agree with PyTorch's in float32.

A frame is tracked by all of them in turn, in one process, so that other load on the machine affects all.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from samvideo.deploy.bundle import export_model
from samvideo.deploy.manifest import PRECISIONS
from samvideo.deploy.runtimes import OPENERS, RUNTIMES, open_exported
from samvideo.errors import ConfigError
from samvideo.evaluation.bench_inputs import Case, Clip, Plan, ready_model
from samvideo.evaluation.meter import Times, clocked
from samvideo.models import VideoModel
from samvideo.policies import policy_options, text_of
from samvideo.runtime import Runtime
from samvideo.specs import BUNDLED, SPECS
from samvideo.torch_runtime import TorchRuntime, resolve_device
from samvideo.trackers.calibration import track_middle
from samvideo.trackers.sam import SamTracker
from samvideo.types import FrameResult

BASELINE = "torch"
REFERENCE = "torch:fp32"
EXPORTED = "="
"""Between a runtime and the folder of an exported model that it opens."""
HEADER = (
    f"{'model':<20}{'input':>6}{'objects':>8}  {'runtime':<16}{'p50 ms':>8}{'p95 ms':>8}{'fps':>7}{'speed':>7}"
    f"{'IoU':>8}{'min':>8}"
)


def check_runtimes(names: Sequence[str], case: Case) -> None:
    """ConfigError for a runtime or precision that does not exist, or a case that is not for runtimes."""
    for name in names:
        if EXPORTED in name and name.partition(EXPORTED)[0] in OPENERS:
            continue
        runtime, _, precision = name.partition(":")
        if runtime not in RUNTIMES or precision not in ("", *PRECISIONS):
            raise ConfigError(
                f"no runtime is called {name!r}: {', '.join(RUNTIMES)} expected, or one with a precision or an "
                "exported model, such as openvino:bf16 or onnx=DIR"
            )
    if case.model not in SPECS | BUNDLED:
        raise ConfigError(f"--runtimes is for video models, and {case.model} is none: leave it out")
    if case.policies:
        raise ConfigError("runtimes are compared with the model's own policy: leave --policy or --runtimes out")


def measure_runtimes(case: Case, plan: Plan, clip: Clip) -> list[dict[str, Any]]:
    """One case: rows of the table, entries of the JSON, one for each runtime.

    PyTorch is always among them, as `case` says and in float32. Times are in seconds per frame; speed is relative
    to PyTorch, and the IoU of masks to its masks in float32, over the timed frames.
    """
    names = list(dict.fromkeys((BASELINE, *plan.runtimes, REFERENCE)))
    device, _ = resolve_device(case.device, case.dtype)
    trackers: dict[str, SamTracker] = {}
    with TemporaryDirectory() as folder:
        for number, name in enumerate(names):
            trackers[name] = SamTracker(_open(name, case, plan, clip, Path(folder) / str(number)))
        times = {name: Times() for name in names}
        ious: dict[str, list[float]] = {name: [] for name in names}
        for index in range(plan.warmup + plan.frames):
            frame = clip.frame(index)
            prompts = clip.prompts[: case.objects] if index < case.prompted else ()
            found: dict[str, FrameResult] = {}
            for name, tracker in trackers.items():
                clock = times[name] if index >= plan.warmup else Times()
                found[name] = clocked(clock, device, partial(tracker.step, frame, prompts))
            for name in names if index >= plan.warmup else ():
                ious[name] += _ious(found[name], found[REFERENCE])
    common = {"model": case.model, "objects": case.objects, "prompted": case.prompted, "device": str(device)}
    return [common | _entry(name, case, times, ious) for name in names]


def _entry(name: str, case: Case, times: dict[str, Times], ious: dict[str, list[float]]) -> dict[str, Any]:
    ratios = [base / own for base, own in zip(times[BASELINE].wall, times[name].wall, strict=True)]
    return {
        "runtime": shown(name),
        "input": case.input_size or (SPECS | BUNDLED)[case.model].input_wh[0],
        **times[name].summary(),
        "fps": 1 / median(times[name].wall),
        "speed": median(ratios),
        "mask_iou": {"mean": float(np.mean(ious[name])), "min": min(ious[name])},
    }


def _open(name: str, case: Case, plan: Plan, clip: Clip, folder: Path) -> Runtime:
    """A runtime of the model with the same weights as that of every other name."""
    runtime, exported, given = name.partition(EXPORTED)
    if exported:
        return open_exported(runtime, Path(given), device=case.device, threads=torch.get_num_threads())
    runtime, _, precision = name.partition(":")
    model = ready_model(case, plan).requires_grad_(False)
    if runtime == BASELINE:
        return TorchRuntime(model, device=case.device, dtype=precision or case.dtype)
    policy = _fitting_policy(model, case.prompted)
    spec = replace(model.spec, policy=policy)
    model.spec, model.policy = spec, model.with_policy(policy).policy
    track = partial(track_middle, frames=clip.frames[: plan.warmup]) if precision == "int8" else None
    formats: Any = {"to": runtime, "precision": precision or "fp32"}
    export_model(model, folder, calibrate=track, **formats)
    return open_exported(runtime, folder, device=case.device, threads=torch.get_num_threads())


def shown(name: str) -> str:
    """The name of a runtime without the path of an exported model's folder."""
    runtime, exported, folder = name.partition(EXPORTED)
    return f"{runtime}{exported}{Path(folder).name}"


def _fitting_policy(model: VideoModel, prompted: int) -> str:
    """The model's policy with a memory no larger than it gets here: graphs attend to all of it, filled or not."""
    policy = text_of(model.spec.policy)
    if "prompted" not in policy_options(policy.partition(":")[0]):
        return policy
    return f"{policy}{',' if ':' in policy else ':'}prompted={prompted}"


def _ious(found: FrameResult, expected: FrameResult) -> list[float]:
    unions = [(a | b).sum() for a, b in zip(found.masks, expected.masks, strict=True)]
    both = [(a & b).sum() for a, b in zip(found.masks, expected.masks, strict=True)]
    return [float(a / b) if b else 1.0 for a, b in zip(both, unions, strict=True)]


def row(result: dict[str, Any]) -> str:
    """A runtime's line under `HEADER`."""
    seconds, iou = result["seconds"], result["mask_iou"]
    return (
        f"{result['model']:<20}{result['input']:>6}{result['objects']:>8}  {result['runtime']:<16}"
        f"{1000 * seconds['p50']:>8.0f}{1000 * seconds['p95']:>8.0f}{result['fps']:>7.2f}{result['speed']:>6.2f}x"
        f"{iou['mean']:>8.4f}{iou['min']:>8.4f}"
    )
