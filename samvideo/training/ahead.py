"""Draws the data of the next step in the background, on a CUDA stream of its own."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

Draw = Callable[[int], list[Tensor]]
"""Makes the inputs of step k, from k alone: it shares no random numbers with what runs beside it."""


class Ahead:
    """Calls `draw` one step ahead, in one thread; a context manager, in whose block it is used like `draw`.

    What `draw` raises is raised by the call for its step.

    Args:
        draw: makes the inputs of a step.
        steps: one after the last that is asked for.
        device: a CUDA device, or the CPU, on which the thread alone is tested.
    """

    def __init__(self, draw: Draw, steps: int, device: torch.device) -> None:
        self._draw, self._steps = draw, steps
        self._pool = ThreadPoolExecutor(1, "training-data")
        self._drawn: dict[int, Future[tuple[list[Tensor], torch.cuda.Event | None]]] = {}
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._stream.wait_stream(torch.cuda.current_stream(device))  # for what `draw` reads
            self._reached = torch.cuda.current_stream(device).record_event()

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __call__(self, step: int) -> list[Tensor]:
        """The inputs of a step, for the current stream; those of the next one are begun."""
        drawn = self._drawn.pop(step, None) or self._pool.submit(self._prepare, step)
        inputs, ready = drawn.result()
        if step + 1 < self._steps:
            self._drawn[step + 1] = self._pool.submit(self._prepare, step + 1)
        if ready is not None:
            current = torch.cuda.current_stream(inputs[0].device)
            current.wait_event(ready)
            for value in inputs:
                value.record_stream(current)  # their memory is the current stream's, too, until it is through
            self._reached.synchronize()  # steps are queued faster than they run: no more than two at a time
            self._reached = current.record_event()
        return inputs

    def _prepare(self, step: int) -> tuple[list[Tensor], torch.cuda.Event | None]:
        with torch.no_grad(), torch.cuda.stream(self._stream):
            inputs = self._draw(step)
            return inputs, None if self._stream is None else self._stream.record_event()
