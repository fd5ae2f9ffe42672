"""Time a tracker, and a peer alternately with it, over the frames of a clip."""

import time
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samvideo.evaluation import meter
from samvideo.evaluation.bench_inputs import Case, Clip
from samvideo.evaluation.peer import Peer
from samvideo.tensors import PromptTensors
from samvideo.torch_runtime import TorchPrediction, TorchRuntime
from samvideo.trackers.objects import group_prompts
from samvideo.trackers.sam import SamTracker, input_points
from samvideo.types import FrameResult

KEPT_RESULTS = 30  # of which writing is timed
PARTS = 10


@dataclass
class Times:
    """Wall and processor seconds of each frame; the processor's do not depend on what else the machine does."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """The entry in the JSON."""
        p50, p95 = np.quantile(self.wall, (0.5, 0.95)).tolist()
        return {
            "seconds": {"p50": p50, "p95": p95, "min": min(self.wall)},
            "cpu_seconds": {"p50": median(self.cpu), "min": min(self.cpu)},
        }


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
        self._tracker = SamTracker(runtime)
        self._prompts, self._prompted = clip.prompts[: case.objects], case.prompted
        self.watch = meter.Stopwatch(self._model)
        self.ours, self._theirs = Times(), Times()
        self.results: deque[FrameResult] = deque(maxlen=KEPT_RESULTS)
        self._ious: list[float] = []

    def warm_up(self, count: int) -> None:
        """Fill the memory."""
        for index in range(count):
            self.step(index)
            if self._peer is not None:
                self._compare(self._peer_step(index, self._peer))

    def time(self, first: int, count: int) -> None:
        """Time frames, and on a CPU the stages of the same frames; on a GPU those take a second round."""
        on_cpu = self._model.device.type == "cpu"
        for index in range(first, first + count):
            with self.watch.frame() if on_cpu else nullcontext():
                self.results.append(self._clocked(self.ours, partial(self.step, index)))
            if self._peer is not None:
                self._compare(self._clocked(self._theirs, partial(self._peer_step, index, self._peer)))
        if not on_cpu:
            for index in range(first, first + count):
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

    def _clocked(self, times: Times, work: Callable[[], Any]) -> Any:
        begin, cpu = time.perf_counter(), time.process_time()
        result = work()
        meter.synchronise(self._model.device)
        times.wall.append(time.perf_counter() - begin)
        times.cpu.append(time.process_time() - cpu)
        return result

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
