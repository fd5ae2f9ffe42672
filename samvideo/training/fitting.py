"""Shared by both trainings: the loss, the moving average of the weights, the loop with its checkpoints."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from samvideo.io.files import replacing

T = TypeVar("T")
Log = Callable[[str], None]
SAVED_EVERY = 200
LOG_EVERY = 100


@dataclass(frozen=True)
class TrainingStage:
    """One stage of training.

    Attributes:
        name: for the log.
        steps, batch, rate: of AdamW with one cycle.
        seed: with the step, it determines the samples, so that a resumed stage gives the same weights.
        checkpoint: file with the state of an unfinished stage.
    """

    name: str
    steps: int
    batch: int
    rate: float
    seed: int
    checkpoint: Path


def mask_loss(logits: Tensor, truth: Tensor, valid: Tensor, judged: Tensor, present: Tensor) -> Tensor:
    """Sum cross-entropy and Dice of masks with cross-entropy of presence and quality.

    Args:
        logits, truth, valid: (B, S, S).
        judged: (B, 2) logits of presence and of quality, the IoU with the truth.
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


def _averaged(average: Tensor, value: Tensor, steps: Tensor | int) -> Tensor:
    """Update an exponential moving average (Polyak) that decays faster at the start."""
    decay = min(0.998, (1 + int(steps)) / (10 + int(steps)))
    return average.lerp(value, 1 - decay) if value.is_floating_point() else value


def _batches(draw: Callable[[int], T], steps: range, workers: int, pinned: bool) -> Iterable[T]:
    """The samples of some steps, drawn ahead by worker processes if there are any."""
    return DataLoader(
        steps,  # type: ignore[arg-type]
        batch_size=None,
        collate_fn=draw,  # type: ignore[arg-type]
        num_workers=workers,
        pin_memory=pinned,
        multiprocessing_context="spawn" if workers else None,
    )


def train(
    network: nn.Module,
    stage: TrainingStage,
    draw: Callable[[int], T],
    loss_of: Callable[[T], Tensor],
    log: Log,
    workers: int = 0,
) -> None:
    """Train a network in place, from a checkpoint if there is one; it ends with the averaged weights.

    Args:
        network: on its device.
        stage: steps, rate, seed and checkpoint.
        draw: returns the samples of a step.
        loss_of: returns the loss on them.
        log: called with progress messages.
        workers: processes that draw samples ahead.
    """
    network.train().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), stage.rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, stage.rate, stage.steps + 1, pct_start=0.1)
    average, start = AveragedModel(network, avg_fn=_averaged, use_buffers=True), 0
    average.update_parameters(network)  # the first update copies the initial weights
    parts = dict[str, Any](network=network, optimiser=optimiser, schedule=schedule, average=average)
    if stage.checkpoint.exists():
        saved = torch.load(stage.checkpoint, weights_only=True)
        for key, part in parts.items():
            part.load_state_dict(saved[key])
        start = saved["step"]
        log(f"{stage.name}: resumes at step {start}")
    losses, began = [], time.monotonic()
    steps = range(start, stage.steps)
    for done, batch in enumerate(_batches(draw, steps, workers, next(network.parameters()).is_cuda), start + 1):
        loss = loss_of(batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        average.update_parameters(network)
        losses.append(loss.detach())
        if done % LOG_EVERY == 0 or done == stage.steps:
            mean = torch.stack(losses).mean().item()
            speed = (done - start) * stage.batch / (time.monotonic() - began)
            log(f"{stage.name}: step {done}/{stage.steps}, loss {mean:.4f}, {speed:.1f} samples/s")
            losses = []
        if done % SAVED_EVERY == 0 and done < stage.steps:
            _save(stage.checkpoint, parts, done)
    network.eval().load_state_dict(average.module.state_dict())
    stage.checkpoint.unlink(missing_ok=True)


def _save(checkpoint: Path, parts: dict[str, Any], step: int) -> None:
    state = {key: part.state_dict() for key, part in parts.items()}
    with replacing(checkpoint) as part:
        torch.save(state | {"step": step}, part)
