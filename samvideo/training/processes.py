"""Training in several processes: each sees its part of a batch, gradients are averaged (data parallelism)."""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from threading import Thread
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from samvideo.errors import ConfigError, SamVideoError
from samvideo.evaluation.threads import limit_loaded

POLL_SECONDS = 0.2
"""Between two looks at processes that start."""
PATIENCE = timedelta(days=1)
"""For a process that lives: the first one may validate for long. One that has ended is noticed at once."""
END_SECONDS = 5.0
"""For the other processes to end by themselves. After an early stop they may wait for ever in a collective call."""
Work = Callable[..., None]
"""Called with the arguments given, then `rank` and `count` by name; at the top of a module."""


class ProcessEnded(SamVideoError):
    """Another process of the group has ended."""


def check_shares(batch: int, processes: int) -> None:
    """Raise ConfigError unless the processes get equal parts of a batch."""
    if batch % processes:
        raise ConfigError(f"a batch of {batch} is not shared evenly by {processes} processes: choose a multiple")


def share(batch: int, rank: int, count: int) -> range:
    """Places of a batch that are computed by process `rank` of `count`."""
    return range(rank * batch // count, (rank + 1) * batch // count)


@dataclass(frozen=True)
class _Group:
    """What all processes know of their group.

    Attributes:
        count: of processes.
        file: where they meet.
        started: counts the others that have started.
        errors: of the others, a queue.
        threads: of each process.
    """

    count: int
    file: Path
    started: Semaphore
    errors: Any
    threads: int

    @contextmanager
    def member(self, rank: int) -> Iterator[None]:
        """Belong to the group within the block."""
        dist.init_process_group(
            "gloo", init_method=f"file://{self.file}", rank=rank, world_size=self.count, timeout=PATIENCE
        )
        try:
            yield
        finally:
            dist.destroy_process_group()


@contextmanager
def joined(count: int, work: Work, *arguments: Any) -> Iterator[None]:
    """Run `work` in `count` - 1 further processes beside the block, which is the first of them.

    They form a group for `average_gradients`, share the threads of PyTorch, and end with the block. They are in a
    session of their own: Ctrl-C reaches the first process alone, which ends the others.

    Raises:
        SamVideoError: another process ended; its own error, if it had one.
    """
    if count == 1:
        yield
        return
    context, threads = get_context("spawn"), torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        started, errors = context.Semaphore(0), context.SimpleQueue()
        group = _Group(count, Path(folder) / "group", started, errors, max(1, threads // count))
        others = [context.Process(target=_other, args=(group, rank, work, arguments)) for rank in range(1, count)]
        torch.set_num_threads(group.threads)
        try:
            for other in others:
                other.start()
            _wait(started, others)
            with group.member(0):
                yield
            for other in others:
                other.join(END_SECONDS)
        except ProcessEnded as ended:
            raise (ended if errors.empty() else errors.get()) from None
        finally:
            torch.set_num_threads(threads)
            for other in others:
                if other.is_alive():
                    other.terminate()
                    other.join()
            errors.close()


def _wait(started: Semaphore, others: Sequence[BaseProcess]) -> None:
    """Until all processes have started: the group would wait for one that has ended."""
    for _ in others:
        while not started.acquire(timeout=POLL_SECONDS):
            if ended := [other.exitcode for other in others if not other.is_alive()]:
                raise SamVideoError(
                    f"another process of this training ended while it started, with code {ended[0]}: its message "
                    "is above; with --nproc 1, this process trains alone"
                )


def _other(group: _Group, rank: int, work: Work, arguments: tuple[Any, ...]) -> None:
    """A further process; the first one tells its errors, and has ended it where it finds itself alone."""
    Thread(target=_end_with_parent, name="training-parent", daemon=True).start()
    if hasattr(os, "setsid"):
        os.setsid()
    limit_loaded(group.threads)
    group.started.release()
    with group.member(rank):
        try:
            work(*arguments, rank=rank, count=group.count)
        except (ProcessEnded, KeyboardInterrupt):
            pass
        except (SamVideoError, OSError) as error:
            group.errors.put(error)


def _end_with_parent() -> None:
    """End this process when the first one is killed: nothing else would, before they form a group."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def average_gradients(parameters: Iterable[nn.Parameter], parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replace gradients by their means over the group, which are added up on the CPU; returns the means of `parts`.

    A parameter has a gradient afterwards if it has one in any process.

    Raises:
        ProcessEnded: another process of the group has ended.
    """
    learned = [parameter for parameter in parameters if parameter.requires_grad]
    used = _summed(torch.tensor([float(parameter.grad is not None) for parameter in learned]))
    gradients = []
    for parameter, count in zip(learned, used.tolist(), strict=True):
        if count and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if parameter.grad is not None:
            gradients.append(parameter.grad)
    values = [*gradients, *(part.detach().reshape(1) for part in parts.values())]
    total = _summed(torch.cat([value.reshape(-1).float().cpu() for value in values]))
    means = torch.split(total / dist.get_world_size(), [value.numel() for value in values])
    for gradient, mean in zip(gradients, means, strict=False):
        gradient.copy_(mean.view(gradient.shape))
    return dict(zip(parts, (mean[0] for mean in means[len(gradients) :]), strict=True))


def _summed(values: Tensor) -> Tensor:
    """The sums over the group, in place."""
    try:
        dist.all_reduce(values)
    except RuntimeError as error:
        raise ProcessEnded(
            f"another process of this training has ended ({str(error)[:80]}): the same command resumes it"
        ) from error
    return values
