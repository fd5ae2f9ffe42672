"""Measure a video model: time by stage, FLOPs, share of the peak, memory, a peer beside it.

Frames of both models, and of several memory policies of ours, are timed alternately, in one process, so that other
load on the machine affects all of them.
"""

import platform
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from itertools import cycle, islice, pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samvideo.compiled import CompiledRuntime
from samvideo.errors import ConfigError
from samvideo.evaluation import meter
from samvideo.evaluation.bench_everything import HEADER as EVERYTHING_HEADER
from samvideo.evaluation.bench_everything import measure_everything
from samvideo.evaluation.bench_everything import row as everything_row
from samvideo.evaluation.bench_images import check_image_case, measure_image
from samvideo.evaluation.bench_inputs import Case, Clip, Plan, read_clip, ready_model
from samvideo.evaluation.bench_runtimes import HEADER as RUNTIMES_HEADER
from samvideo.evaluation.bench_runtimes import check_runtimes, measure_runtimes
from samvideo.evaluation.bench_runtimes import row as runtimes_row
from samvideo.evaluation.bench_runtimes import shown as shown_runtime
from samvideo.evaluation.meter import Times, clocked
from samvideo.evaluation.metrics import score_indices
from samvideo.evaluation.peer import Peer
from samvideo.evaluation.results import processor
from samvideo.io.masks import index_map
from samvideo.models import count_parameters
from samvideo.object_prompts import group_prompts, input_points
from samvideo.outputs import Outputs
from samvideo.policies import parse_policy
from samvideo.specs import BUNDLED, IMAGE_SPECS, SPECS
from samvideo.tensors import PromptTensors
from samvideo.torch_runtime import DTYPES, TorchPrediction, TorchRuntime, resolve_device
from samvideo.trackers.sam import SamTracker
from samvideo.types import FrameResult

WRITTEN = ("overlay", "masks", "rle", "csv")
LONG = 96  # frames of an ordinary short clip
KEPT_RESULTS = 30  # of which writing is timed
PARTS = 10
PEERS = ("transformers", "timm")


class TimedTracker:
    """Steps through a clip.

    Args:
        runtime: ours.
        peer: steps after ours on every frame, or None.
        clip: its first prompts are given.
        case: how many objects are prompted, and on how many frames.
    """

    def __init__(self, runtime: TorchRuntime, peer: Peer | None, clip: Clip, case: Case) -> None:
        self._model, self._peer, self._clip = runtime.model, peer, clip
        self._tracker = SamTracker(runtime, encode=lambda rgb: runtime.encode(rgb))  # which may be timed
        self._prompts, self._prompted = clip.prompts[: case.objects], case.prompted
        self._compiled = isinstance(runtime, CompiledRuntime)
        if self._compiled:
            self.watch = meter.Stopwatch(runtime, self._model.device, meter.COMPILED_STAGES)
        else:
            self.watch = meter.Stopwatch(self._model, self._model.device)
        self.ours, self._theirs = Times(), Times()
        self.results: deque[FrameResult] = deque(maxlen=KEPT_RESULTS)
        self._ious: list[float] = []

    def warm_up(self, count: int) -> None:
        """Fill the memory."""
        for index in range(count):
            self.step(index)
            if self._peer is not None:
                self._compare(self._peer_step(index, self._peer))

    @property
    def on_cpu(self) -> bool:
        """Whether stages are timed with the frames."""
        return self._model.device.type == "cpu"

    def time(self, index: int) -> None:
        """Time a frame, and on a CPU its stages."""
        with self.watch.frame() if self.on_cpu else nullcontext():
            self.results.append(clocked(self.ours, self._model.device, partial(self.step, index)))
        if self._peer is not None:
            self._compare(clocked(self._theirs, self._model.device, partial(self._peer_step, index, self._peer)))

    def time_stages(self, index: int) -> None:
        """Time the stages of a frame."""
        with self.watch.frame():
            self.step(index)

    def course(self, first: int) -> list[tuple[int, float]]:
        """(last frame, median seconds) of ten equal parts of the timed frames, the first of which was `first`."""
        wall = self.ours.wall
        ends = [len(wall) * part // PARTS for part in range(PARTS + 1)]
        return [(first + b, median(wall[a:b])) for a, b in pairwise(ends) if a < b]

    def step(self, index: int) -> FrameResult:
        """Track one frame with our model."""
        return self._tracker.step(self._clip.frame(index), self._prompts if index < self._prompted else ())

    def _peer_step(self, index: int, peer: Peer) -> Tensor:
        image = self._model.preprocess(self._clip.frames[index].rgb)
        return peer.step(image, self._clicks() if index == 0 else [])

    def _clicks(self) -> list[tuple[int, PromptTensors]]:
        size_wh, clicks = self._clip.info.size_wh, []
        for prompt in group_prompts(self._prompts, (), size_wh):
            xy, labels = input_points(prompt, size_wh, self._model.spec.input_wh)
            points = (torch.from_numpy(array)[None].to(self._model.device) for array in (xy, labels))
            clicks.append((prompt.object_id, PromptTensors(*points)))
        return clicks

    def _compare(self, theirs: Tensor) -> None:
        shown = [tracked.best.known_prediction for _, tracked in sorted(self._tracker.objects.items())]
        logits = [p.logits for p in shown if isinstance(p, TorchPrediction)]
        for ours, other in zip(torch.cat(logits)[:, 0] > 0, theirs > 0, strict=True):
            union = int((ours | other).sum())
            self._ious.append(int((ours & other).sum()) / union if union else 1.0)

    def entry(self, plan: Plan, beside: Mapping[str, float], peak: float) -> dict[str, Any]:
        """Its part of the entry in the JSON.

        Args:
            plan: of the frames that were timed.
            beside: seconds of what is done with the results.
            peak: FLOP per second of the machine.
        """
        stages, read = self.watch.medians(), median(self._clip.decode_seconds)
        network = sum(seconds for name, seconds in stages.items() if name != "preprocess")
        with torch.compiler.set_stance("force_eager") if self._compiled else nullcontext():
            flops = meter.count_flops(lambda: self.step(plan.warmup + plan.frames))
        return {
            **self.ours.summary(),
            "fps": 1 / median(self.ours.wall),
            "course": self.course(plan.warmup),
            "stages": {"read": read, **stages, **beside},
            "beside_share": (read + sum(beside.values())) / network,
            "flops": flops,
            "network_seconds": network,
            "peak_share": flops / network / peak,
        }

    def compared(self, peer: Peer) -> dict[str, Any]:
        """The peer's entry in the JSON; ratios are of the same frame, so that both met the same load."""
        ratios = [b / a for a, b in zip(self.ours.wall, self._theirs.wall, strict=True)]
        return {
            "parameters": peer.parameters,
            **self._theirs.summary(),
            "speedup": median(ratios),
            "cpu_speedup": median(self._theirs.cpu) / median(self.ours.cpu),
            "mask_iou": {"mean": float(np.mean(self._ious)), "min": min(self._ious)},
        }


def bench(cases: Sequence[Case], plan: Plan, progress: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Time all cases; the result can be written as JSON.

    Args:
        cases: at least one.
        plan: the same for all.
        progress: called with the header of the table, and with the row of each case when it is done.

    Raises:
        ConfigError: a model, device, dtype or peer that does not exist.
        VideoError: the source has too few frames.
    """
    if plan.peer not in (None, *PEERS):
        raise ConfigError(f"no peer is called {plan.peer!r}: {' or '.join(PEERS)} expected")
    for case in cases:
        _check(case, plan)
    clip = read_clip(plan, max(case.objects for case in cases))
    progress(RUNTIMES_HEADER if plan.runtimes else HEADER if plan.points is None else EVERYTHING_HEADER)
    results = []
    for case in cases:
        if plan.points is not None:
            results.append(measure_everything(case, plan, clip))
            progress(everything_row(results[-1]))
            continue
        if plan.runtimes:
            beside = measure_runtimes(case, plan, clip)
            results += beside
            for result in beside:
                progress(runtimes_row(result))
            continue
        measured = measure(case, plan, clip) if case.model in SPECS else [measure_image(case, plan, clip)]
        results += measured
        for result in measured:
            progress(row(result))
    # file names only: a result that is shared does not reveal folders of this machine
    names: dict[str, Any] = {
        key: Path(path).name for key in ("source", "weights") if (path := getattr(plan, key)) is not None
    }
    names |= {"runtimes": [shown_runtime(name) for name in plan.runtimes]}
    document: dict[str, Any] = {"environment": environment(), "plan": asdict(plan) | names, "cases": results}
    speedups = [result["peer"]["speedup"] for result in results if "peer" in result]
    if speedups:
        document["peer"] = {"name": plan.peer, "speedup": min(speedups)}
    return document


def _check(case: Case, plan: Plan) -> None:
    """Raise ConfigError for what does not exist, or does not go together."""
    if case.model in BUNDLED and not plan.runtimes:
        raise ConfigError(f"{case.model} is timed beside its exports: give --runtimes, such as torch,onnx")
    if case.model not in {**BUNDLED, **SPECS, **IMAGE_SPECS}:
        known = ", ".join([*SPECS, *IMAGE_SPECS])
        raise ConfigError(f"no model is called {case.model!r}; there are: {known}")
    if case.model in SPECS and plan.peer == "timm":
        raise ConfigError(f"timm has trunks only: --peer transformers expected for {case.model!r}")
    if plan.points is not None and (case.model in SPECS or plan.peer == "timm"):
        raise ConfigError("--everything times image models, such as sam-vit-b; its peer is transformers")
    if case.model in IMAGE_SPECS:
        check_image_case(case, plan)
    if plan.runtimes:
        check_runtimes(plan.runtimes, case)
        if plan.peer or plan.points is not None:
            raise ConfigError("--runtimes times alone: leave --peer and --everything out")
    if case.policies and plan.peer:
        raise ConfigError("policies are compared with each other: leave --peer or --policy out")
    for policy in case.policies:
        parse_policy(policy)
    resolve_device(case.device, case.dtype)
    if case.prompted > 1 and (plan.peer or plan.warmup < case.prompted):
        raise ConfigError(f"{case.prompted} prompted frames: no peer, and --warmup of at least as many")


def measure(case: Case, plan: Plan, clip: Clip) -> list[dict[str, Any]]:
    """One case: rows of the table, entries of the JSON, one for each policy.

    Times are in seconds per frame, memory in bytes, that of all policies together.
    """
    device, dtype = resolve_device(case.device, case.dtype)
    model = ready_model(case, plan).requires_grad_(False)  # the counter of FLOPs fails on gradients
    peer_dtype = dtype if plan.peer_dtype == "same" else DTYPES[plan.peer_dtype]
    peer = Peer(model, device, peer_dtype, clip.info.size_wh) if plan.peer else None
    parameters = count_parameters(model)
    if plan.compiled:
        runtime: TorchRuntime = CompiledRuntime(model, device=device, dtype=dtype)
    else:
        runtime = TorchRuntime(model, device=device, dtype=dtype, static_shapes=plan.static_shapes)
    runtimes = [runtime.with_policy(policy) for policy in case.policies] or [runtime]
    trackers = [TimedTracker(one, peer, clip, case) for one in runtimes]
    for timed in trackers:
        timed.warm_up(plan.warmup)
    peak = meter.matmul_peak(device, dtype)
    meter.reset_peak_memory(device)
    time_alternately(trackers, range(plan.warmup, plan.warmup + plan.frames))
    memory = meter.peak_memory(device)
    peak = max(peak, meter.matmul_peak(device, dtype))
    first = trackers[0]
    beside = {"score": score_seconds(first.results), "write": write_seconds(clip, first.results)}
    common: dict[str, Any] = {
        "model": case.model,
        "input_wh": list(model.spec.input_wh),
        "objects": case.objects,
        "prompted": case.prompted,
        "device": str(device),
        "dtype": str(dtype).removeprefix("torch."),
        "parameters": parameters,
        "matmul_peak": peak,
        "peak_memory": memory,
    }
    results = [common | timed.entry(plan, beside, peak) for timed in trackers]
    for policy, timed, result in zip(case.policies, trackers, results, strict=False):
        ratios = [own / other for own, other in zip(timed.ours.wall, first.ours.wall, strict=True)]
        result |= {"policy": policy, "ratio": median(ratios)}
    if peer is not None:
        results[0]["peer"] = {"dtype": str(peer_dtype).removeprefix("torch."), **first.compared(peer)}
    return results


def time_alternately(trackers: Sequence[TimedTracker], frames: range) -> None:
    """Time each frame by all trackers in turn; on a GPU stages take a second round."""
    for index in frames:
        for timed in trackers:
            timed.time(index)
    for index in frames:
        for timed in trackers:
            if not timed.on_cpu:
                timed.time_stages(index)


def write_seconds(clip: Clip, results: Sequence[FrameResult]) -> float:
    """Seconds per frame to write all files of a run, each on a thread of its own.

    Few results are written repeatedly: opening and finishing files is not a cost of a frame.
    """
    count = max(LONG, len(results))
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        with Outputs(Path(folder), WRITTEN, clip.info) as outputs:
            for index, result in enumerate(islice(cycle(results), count)):
                seen = clip.frame(result.index - clip.frames[0].index)
                frame = replace(seen, index=index, seconds=float(index / clip.info.rate))
                outputs.write(frame, replace(result, index=index, seconds=frame.seconds))
        return (time.perf_counter() - begin) / count


def score_seconds(results: Sequence[FrameResult]) -> float:
    """Seconds per frame to score all objects, each frame against the one before."""
    maps = [index_map(result.masks, result.object_ids).astype(np.uint8) for result in results]
    begin = time.perf_counter()
    for truth, prediction in zip([maps[0], *maps], maps, strict=False):
        score_indices(truth, prediction, results[0].object_ids)
    return (time.perf_counter() - begin) / len(maps)


def environment() -> dict[str, Any]:
    """Describe machine and versions that the numbers depend on."""
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "processor": processor(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "samvideo": version("samvideo"),
    }


HEADER = (
    f"{'model':<20}{'input':>6}{'objects':>8}{'device':>7}{'dtype':>9}{'p50 ms':>9}{'p95 ms':>9}"
    f"{'fps':>7}{'GFLOP':>8}{'of peak':>8}{'MB':>7}{'peer':>7}"
)


def row(result: dict[str, Any]) -> str:
    """One case as a line under `HEADER`, and its stages."""
    seconds, stages, peer = result["seconds"], result["stages"], result.get("peer")
    line = (
        f"{result['model']:<20}{result['input_wh'][0]:>6}{result['objects']:>8}{result['device']:>7}"
        f"{result['dtype']:>9}{1000 * seconds['p50']:>9.0f}{1000 * seconds['p95']:>9.0f}{result['fps']:>7.2f}"
        f"{result['flops'] / 1e9:>8.0f}{result['peak_share']:>8.0%}{result['peak_memory'] / 2**20:>7.0f}"
    )
    text = "  ms: " + ", ".join(f"{name} {1000 * value:.0f}" for name, value in stages.items())
    if "beside_share" in result:
        text += f"; read, score and write: {result['beside_share']:.1%} of the network"
    if "policy" in result:
        text = f"  policy {result['policy']}: {result['ratio']:.2f}x the time of the first\n{text}"
    if peer is None:
        return f"{line}{'-':>7}\n{text}"
    beside = (
        f"  peer ({peer['dtype']}): p50 {1000 * peer['seconds']['p50']:.0f} ms, "
        f"{peer['parameters'] / 1e6:.1f} M parameters; processor time {peer['cpu_speedup']:.2f}x"
    )
    if trunk := peer.get("trunk"):
        beside += (
            f"; our trunk without its neck: p50 {1000 * trunk['seconds']['p50']:.0f} ms, {trunk['speedup']:.2f}x"
        )
    if error := peer.get("logit_error"):
        beside += f"; relative error of logits {error['mean']:.1e}, at most {error['max']:.1e}"
    if iou := peer.get("mask_iou"):
        beside += f"; IoU of masks {iou['mean']:.4f}, at least {iou['min']:.4f}"
    return f"{line}{peer['speedup']:>6.2f}x\n{text}\n{beside}"
