"""Training in several processes: each sees its part of a batch, gradients are averaged (data parallelism)."""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from samvideo.errors import SamVideoError

POLL_SECONDS = 0.2
"""Between two looks at processes that start."""
Work = Callable[..., None]
"""Called with the arguments given, then `rank` and `count` by name; at the top of a module."""


@contextmanager
def joined(count: int, work: Work, *arguments: Any) -> Iterator[None]:
    """Run `work` in `count` - 1 further processes beside the block, which is the first of them.

    They form a group for `average_gradients`, and end with the block. They are in a session of their own: Ctrl-C
    reaches the first process alone, which ends the others.

    Raises:
        SamVideoError: another process ended before it had started.
    """
    context = get_context("spawn")
    started = context.Semaphore(0)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "group"
        others = [
            context.Process(target=_other, args=(rank, count, file, started, work, arguments))
            for rank in range(1, count)
        ]
        try:
            for other in others:
                other.start()
            _wait(started, others)
            with _group(0, count, file):
                yield
            for other in others:
                other.join(60)
        finally:
            for other in others:
                if other.is_alive():
                    other.terminate()
                    other.join()


def _wait(started: Semaphore, others: Sequence[BaseProcess]) -> None:
    """Until all processes have started: the group waits for half an hour for one that has ended."""
    for _ in others:
        while not started.acquire(timeout=POLL_SECONDS):
            if ended := [other.exitcode for other in others if not other.is_alive()]:
                raise SamVideoError(
                    f"another process of this training ended while it started, with code {ended[0]}: its message "
                    "is above; with --nproc 1, this process trains alone"
                )


def _other(rank: int, count: int, file: Path, started: Semaphore, work: Work, arguments: tuple[Any, ...]) -> None:
    started.release()
    if hasattr(os, "setsid"):
        os.setsid()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // count))
    with _group(rank, count, file):
        work(*arguments, rank=rank, count=count)


@contextmanager
def _group(rank: int, count: int, file: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=count)
    try:
        yield
    finally:
        dist.destroy_process_group()


def average_gradients(parameters: Iterable[nn.Parameter], parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replace gradients by their means over the group, which are added up on the CPU; returns the means of `parts`.

    Raises:
        SamVideoError: another process of the group has ended.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    values = [*gradients, *(part.detach().reshape(1) for part in parts.values())]
    flat = torch.cat([value.reshape(-1).float().cpu() for value in values])
    try:
        dist.all_reduce(flat)
    except RuntimeError as error:
        raise SamVideoError(
            f"another process of this training has ended ({str(error)[:80]}): the same command resumes it"
        ) from error
    means = torch.split(flat / dist.get_world_size(), [value.numel() for value in values])
    for gradient, mean in zip(gradients, means, strict=False):
        gradient.copy_(mean.view(gradient.shape))
    return dict(zip(parts, (mean[0] for mean in means[len(gradients) :]), strict=True))
