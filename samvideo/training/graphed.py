"""A training step as one CUDA graph: small networks spend most of a step on launching kernels."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

Step = Callable[..., Mapping[str, Tensor]]
WARM_UP = 3
"""Steps before the capture, in which libraries choose their algorithms."""


def graphed(step: Step, model: nn.Module, inputs: Sequence[Tensor]) -> Step:
    """Capture a step, forward and backward, to be replayed.

    Args:
        step: computes gradients from tensors on a CUDA device, returns measurements; it never waits for the device,
            and everything random in it is drawn there.
        model: whose gradients are computed.
        inputs: examples of the shapes that are always the same.
    """
    static = [value.clone() for value in inputs]
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            model.zero_grad(set_to_none=True)
            step(*static)
    torch.cuda.current_stream().wait_stream(side)
    model.zero_grad(set_to_none=True)  # the capture then writes gradients instead of adding to them
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        measured = step(*static)

    def replay(*values: Tensor) -> Mapping[str, Tensor]:
        for kept, value in zip(static, values, strict=True):
            kept.copy_(value)
        graph.replay()
        return {name: value.clone() for name, value in measured.items()}

    return replay
