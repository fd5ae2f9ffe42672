"""One tracker, and a peer in turn with it, over the frames of a clip, with a clock."""

import time
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samvideo.evaluation import meter
from samvideo.evaluation.bench_inputs import Case, Clip
from samvideo.evaluation.peer import Peer
from samvideo.object_prompts import group_prompts, input_points
from samvideo.tensors import PromptTensors
from samvideo.torch_runtime import TorchPrediction, TorchRuntime
from samvideo.trackers.sam import SamTracker
from samvideo.types import FrameResult

WRITTEN = 30
"""The newest results, of which writing is timed."""
PARTS = 10


@dataclass
class Times:
    """Wall and processor seconds of each frame; the processor's tell what sharing the machine did not cost."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """As it stands in the JSON."""
        spread = {"p50": meter.median(self.wall), "p95": meter.quantile(self.wall, 0.95), "min": min(self.wall)}
        return {"seconds": spread, "cpu_seconds": {"p50": meter.median(self.cpu), "min": min(self.cpu)}}


class Run:
    """Steps through a clip.

    Args:
        runtime: ours.
        peer: whose turn comes after ours on every frame, or None.
        clip: its prompts are given on the first frame.
        objects: take this many of its prompts.
    """

    def __init__(self, runtime: TorchRuntime, peer: Peer | None, clip: Clip, case: Case) -> None:
        self.model, self.peer, self.clip = runtime.model, peer, clip
        self.tracker = SamTracker(runtime)
        self.prompts, self.prompted = clip.prompts[: case.objects], case.prompted
        self.watch = meter.Stopwatch(self.model)
        self.ours, self.theirs = Times(), Times()
        self.results: deque[FrameResult] = deque(maxlen=WRITTEN)
        self.ious: list[float] = []

    def warm_up(self, count: int) -> None:
        """Fill the memory."""
        for index in range(count):
            self._step(index)
            if self.peer is not None:
                self._compare(self._peer_step(index, self.peer))

    def time(self, first: int, count: int) -> None:
        """Time frames, and on a CPU the stages of the same frames; on a GPU those take a second round."""
        on_cpu = self.model.device.type == "cpu"
        for index in range(first, first + count):
            with self.watch.watching() if on_cpu else nullcontext():
                self.results.append(self._clocked(self.ours, partial(self._step, index)))
            if self.peer is not None:
                theirs = partial(self._peer_step, index, self.peer)
                self._compare(self._clocked(self.theirs, theirs))
            self.watch.lap()
        if not on_cpu:
            self.watch.frames.clear()
            for index in range(first, first + count):
                with self.watch.watching():
                    self._step(index)
                self.watch.lap()

    def course(self, first: int) -> list[tuple[int, float]]:
        """(last frame, median seconds) of ten equal parts of the timed frames, the first of which was `first`."""
        wall = self.ours.wall
        ends = [len(wall) * part // PARTS for part in range(PARTS + 1)]
        return [(first + b, meter.median(wall[a:b])) for a, b in pairwise(ends) if a < b]

    def count_flops(self, index: int) -> int:
        """FLOPs of our step on one more frame."""
        return meter.count_flops(partial(self._step, index))

    def _clocked(self, times: Times, work: Callable[[], Any]) -> Any:
        begin, cpu = time.perf_counter(), time.process_time()
        result = work()
        meter.synchronise(self.model.device)
        times.wall.append(time.perf_counter() - begin)
        times.cpu.append(time.process_time() - cpu)
        return result

    def _step(self, index: int) -> FrameResult:
        return self.tracker.step(self.clip.frame(index), self.prompts if index < self.prompted else ())

    def _peer_step(self, index: int, peer: Peer) -> Tensor:
        image = self.model.preprocess(self.clip.frames[index].rgb)
        return peer.step(image, self._clicks() if index == 0 else [])

    def _clicks(self) -> list[tuple[int, PromptTensors]]:
        size_wh, clicks = self.clip.info.size_wh, []
        for prompt in group_prompts(self.prompts, (), size_wh):
            xy, labels = input_points(prompt, size_wh, self.model.spec.input_wh)
            points = PromptTensors(torch.from_numpy(xy)[None], torch.from_numpy(labels)[None])
            clicks.append((prompt.object_id, PromptTensors(*(x.to(self.model.device) for x in points))))
        return clicks

    def _compare(self, theirs: Tensor) -> None:
        shown = [tracked.best.known_prediction for _, tracked in sorted(self.tracker.objects.items())]
        logits = [p.logits for p in shown if isinstance(p, TorchPrediction)]
        a, b = torch.cat(logits)[:, 0] > 0, theirs > 0
        for ours, other in zip(a, b, strict=True):
            union = int((ours | other).sum())
            self.ious.append(int((ours & other).sum()) / union if union else 1.0)

    def compared(self) -> dict[str, Any]:
        """The peer's entry in the JSON."""
        assert self.peer is not None
        ratios = [b / a for a, b in zip(self.ours.wall, self.theirs.wall, strict=True)]
        cpu = meter.median(self.theirs.cpu) / meter.median(self.ours.cpu)
        return {
            "parameters": self.peer.parameters,
            **self.theirs.summary(),
            # frame by frame: what else the machine did meets both
            "speedup": meter.median(ratios),
            "cpu_speedup": cpu,
            "mask_iou": {"mean": float(np.mean(self.ious)), "min": min(self.ious)},
        }
