"""What both trainings share: the loss, the running average of the weights, the loop with its checkpoints."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

T = TypeVar("T")
Log = Callable[[str], None]
SAVED_EVERY = 200
TOLD_EVERY = 100


@dataclass(frozen=True)
class Course:
    """One stage of training.

    Attributes:
        name: for the log.
        steps, batch, rate: of AdamW with one cycle.
        seed: what is drawn at a step depends on it and on the step alone, so that a resumed stage goes on alike.
        checkpoint: file that holds the state of an unfinished stage.
    """

    name: str
    steps: int
    batch: int
    rate: float
    seed: int
    checkpoint: Path


def mask_loss(logits: Tensor, truth: Tensor, valid: Tensor, judged: Tensor, present: Tensor) -> Tensor:
    """Cross-entropy and Dice of masks, and cross-entropy of presence and quality.

    Args:
        logits, truth, valid: (B, S, S).
        judged: (B, 2) logits of presence and of quality, which is the overlap with the truth.
        present: (B,) 1 where the object is in view.
    """
    weight = valid / valid.mean().clamp(min=0.1)
    cross = (F.binary_cross_entropy_with_logits(logits, truth, reduction="none") * weight).mean((1, 2))
    belief = logits.sigmoid() * valid
    truth = truth * valid
    both = (belief * truth).sum((1, 2))
    dice = 1 - (2 * both + 1) / (belief.sum((1, 2)) + truth.sum((1, 2)) + 1)
    seen = (truth.flatten(1).any(1) & (present > 0)).float()
    hard = (logits.detach() > 0).float() * valid
    overlap = (hard * truth).sum((1, 2)) / torch.maximum(hard, truth).sum((1, 2)).clamp(min=1)
    presence = F.binary_cross_entropy_with_logits(judged[:, 0], present, reduction="none")
    quality = F.binary_cross_entropy_with_logits(judged[:, 1], overlap, reduction="none")
    return (cross * (0.3 + 0.7 * seen) + 0.5 * dice * seen + 0.15 * presence + 0.1 * quality * seen).mean()


class Average:
    """Exponential moving average of a network's weights (Polyak), with a shorter memory at the start."""

    def __init__(self, network: nn.Module, decay: float = 0.998) -> None:
        self._decay, self._steps = decay, 0
        self._state = {k: v.detach().clone() for k, v in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take one more step into the average."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        for key, value in network.state_dict().items():
            if value.dtype.is_floating_point:
                self._state[key].lerp_(value, 1 - decay)
            else:
                self._state[key].copy_(value)

    def copy_to(self, network: nn.Module) -> None:
        """Give the network the averaged weights."""
        network.load_state_dict(self._state)

    def state_dict(self) -> dict[str, object]:
        """For a checkpoint."""
        return {"steps": self._steps, "weights": self._state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        self._steps, self._state = state["steps"], state["weights"]


class _Steps(Dataset[T]):
    """What is drawn for each step, as PyTorch's loader wants it."""

    def __init__(self, draw: Callable[[int], T]) -> None:
        self._draw = draw

    def __getitem__(self, step: int) -> T:
        return self._draw(step)

    def in_order(self, steps: range, workers: int, pinned: bool) -> Iterable[T]:
        """What is drawn for some steps, ahead of them where there are workers."""
        context = "spawn" if workers else None
        return DataLoader(
            self, None, sampler=steps, num_workers=workers, pin_memory=pinned, multiprocessing_context=context
        )


def train(
    network: nn.Module,
    course: Course,
    draw: Callable[[int], T],
    loss_of: Callable[[T], Tensor],
    log: Log,
    workers: int = 0,
) -> None:
    """Fit a network in place, from a checkpoint if there is one; ends with the averaged weights.

    Args:
        network: on its device.
        course: the stage.
        draw: what is learned from at a step.
        loss_of: the loss on what was drawn.
        log: told of progress.
        workers: processes that draw ahead.
    """
    network.train().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), course.rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, course.rate, course.steps + 1, pct_start=0.1)
    average, start = Average(network), 0
    parts = dict[str, Any](network=network, optimiser=optimiser, schedule=schedule, average=average)
    if course.checkpoint.exists():
        saved = torch.load(course.checkpoint, weights_only=True)
        for key, part in parts.items():
            part.load_state_dict(saved[key])
        start = saved["step"]
        log(f"{course.name}: goes on at step {start}")
    losses, began = [], time.monotonic()
    drawn = _Steps(draw).in_order(range(start, course.steps), workers, next(network.parameters()).is_cuda)
    for done, batch in enumerate(drawn, start + 1):
        loss = loss_of(batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        average.update(network)
        losses.append(loss.detach())
        if done % TOLD_EVERY == 0 or done == course.steps:
            mean = torch.stack(losses).mean().item()
            speed = (done - start) * course.batch / (time.monotonic() - began)
            log(f"{course.name}: step {done}/{course.steps}, loss {mean:.4f}, {speed:.1f} samples/s")
            losses = []
        if done % SAVED_EVERY == 0 and done < course.steps:
            _save(course.checkpoint, parts, done)
    average.copy_to(network)
    network.eval()
    course.checkpoint.unlink(missing_ok=True)


def _save(checkpoint: Path, parts: dict[str, Any], step: int) -> None:
    state = {key: part.state_dict() for key, part in parts.items()}
    torch.save(state | {"step": step}, checkpoint.with_suffix(".part"))
    checkpoint.with_suffix(".part").replace(checkpoint)
