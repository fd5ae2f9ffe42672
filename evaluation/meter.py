"""What a measurement of speed is made of: stage times, counted FLOPs, the machine's matmul peak, peak memory."""

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

T = TypeVar("T")
STAGES = ("preprocess", "encode", "attend_to_memory", "decode", "choose", "use_mask_as_output", "encode_memory")
"""Methods of a `VideoModel` that are timed; all but the first are the network."""
COMPILED_STAGES = ("encode", "prompt", "track", "choose", "use_mask_as_output", "remember")
"""Methods of a runtime that are timed where what they call is compiled; `encode` includes the preprocessing."""


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished, so that a clock can be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


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


class Clock:
    """Runs from now on, until the work on a device that is under way then is done."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._begin, self._cpu = device, time.perf_counter(), time.process_time()

    def stop(self, times: Times) -> None:
        """Add the time that has passed."""
        synchronise(self._device)
        times.wall.append(time.perf_counter() - self._begin)
        times.cpu.append(time.process_time() - self._cpu)


def clocked(times: Times, device: torch.device, work: Callable[[], T]) -> T:
    """Do some work on a device and add the time that it took."""
    clock = Clock(device)
    result = work()
    clock.stop(times)
    return result


class Stopwatch:
    """Times the stages of a model or runtime from outside, frame by frame; which does not know of it.

    On a GPU every stage waits for the device, which slows the frame: time frames and stages in separate passes.

    Attributes:
        frames: seconds by stage, of each frame.
    """

    def __init__(self, timed: object, device: torch.device, stages: Sequence[str] = STAGES) -> None:
        self._timed_object, self._device, self._stages = timed, device, stages
        self.frames: list[dict[str, float]] = []

    @contextmanager
    def frame(self) -> Iterator[None]:
        """Time the stages of one frame, which is computed within the context."""
        seconds: dict[str, float] = defaultdict(float)
        for name in self._stages:
            setattr(self._timed_object, name, self._timed(name, getattr(self._timed_object, name), seconds))
        try:
            yield
        finally:
            for name in self._stages:
                delattr(self._timed_object, name)
        self.frames.append(seconds)

    def _timed(self, name: str, method: Callable[..., Any], seconds: dict[str, float]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            result = method(*args, **kwargs)
            synchronise(self._device)
            seconds[name] += time.perf_counter() - begin
            return result

        return call

    def medians(self) -> dict[str, float]:
        """Seconds per frame of each stage that ran."""
        ran = [name for name in self._stages if any(name in frame for frame in self.frames)]
        return {name: median(frame.get(name, 0.0) for frame in self.frames) for name in ran}


def _fused_attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    """The CPU's fused attention, which PyTorch's counter leaves out; arguments are shapes (B, heads, N, C)."""
    batch, heads, tokens, width = query
    return 2 * batch * heads * tokens * key[2] * (width + value[3])


def count_flops(step: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products, convolutions and attentions of one call."""
    counted = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _fused_attention}
    with FlopCounterMode(display=False, custom_mapping=counted) as counter:
        step()
    return int(counter.get_total_flops())


def matmul_peak(device: torch.device, dtype: torch.dtype, side: int = 2048, rounds: int = 5) -> float:
    """FLOP per second of the fastest of several products of two square matrices."""
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(rounds + 1):  # the first one warms up
        synchronise(device)
        begin = time.perf_counter()
        torch.mm(a, b)
        synchronise(device)
        best = min(best, time.perf_counter() - begin)
    return 2 * side**3 / best


def reset_peak_memory(device: torch.device) -> None:
    """Start the measurement of `peak_memory`."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):  # Linux only; elsewhere the peak is that of the whole process
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def peak_memory(device: torch.device) -> int:
    """Bytes: allocated on a GPU, else resident in the process, at most since the reset."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
