"""One loop for all trainings: AdamW, warm-up and cosine, gradient clipping, averaged weights, resumable."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from samvideo.errors import ConfigError
from samvideo.io.files import replacing

Log = Callable[[str], None]
Gradients = Callable[[int], Mapping[str, Tensor]]
"""Leaves the gradients of step k in the parameters; returns what is to be logged."""
SAVE_SECONDS = 120.0
"""Between two states of an unfinished stage on disk."""
LOG_STEPS = 50


@dataclass(frozen=True)
class Stage:
    """How long and how fast to train.

    Attributes:
        steps: of the optimiser.
        rate: highest learning rate.
        trunk_rate: factor on it for pretrained weights.
        warmup: share of the steps until the highest rate.
        decay: weight decay of matrices and kernels.
        clip: largest norm of the gradient.
        average: decay of the exponential average of weights, which is the result.
        seed: of everything random.
    """

    steps: int
    rate: float = 1e-3
    trunk_rate: float = 0.1
    warmup: float = 0.03
    decay: float = 0.02
    clip: float = 1.0
    average: float = 0.998
    seed: int = 1

    def factor(self, step: int) -> float:
        """Of the learning rate: up in a line, then down in a half cosine."""
        warm = max(1, round(self.warmup * self.steps))
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm)))


def fit(
    model: nn.Module,
    gradients: Gradients,
    stage: Stage,
    state_file: Path,
    log: Log,
    pretrained: Iterable[nn.Parameter] = (),
) -> None:
    """Train in place; the model has the averaged weights afterwards.

    Args:
        model: in evaluation mode: batch norms keep their statistics.
        gradients: computes those of a step, see `backward`.
        stage: length, rates and seed.
        state_file: state of the unfinished stage; a training that finds it goes on from there.
        log: gets a line every `LOG_STEPS`.
        pretrained: parameters that learn more slowly.

    Raises:
        ConfigError: the state is of another model or stage.
    """
    optimiser = torch.optim.AdamW(_groups(model, set(pretrained), stage))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, stage.factor)
    average = {name: value.detach().clone() for name, value in model.named_parameters()}
    begin = _resume(state_file, model, optimiser, schedule, average, stage)
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    meters: dict[str, list[Tensor]] = {}
    began = saved = time.monotonic()
    for step in range(begin, stage.steps):
        torch.manual_seed(stage.seed * 1_000_003 + step)
        parts = gradients(step)
        norm = nn.utils.clip_grad_norm_(parameters, stage.clip)
        if step % LOG_STEPS == 0 and not bool(norm.isfinite()):
            raise ConfigError(f"training diverged at step {step}: a lower rate than {stage.rate} is needed")
        optimiser.step()
        schedule.step()
        _average(average, model, min(stage.average, (step + 1) / (step + 10)))
        for name, part in parts.items():
            meters.setdefault(name, []).append(part)
        if (step + 1) % LOG_STEPS == 0 or step + 1 == stage.steps:
            seconds = (time.monotonic() - began) / (step + 1 - begin)
            means = ", ".join(
                f"{name} {torch.stack(values).nanmean().item():.3f}" for name, values in meters.items()
            )
            log(f"step {step + 1}/{stage.steps} ({seconds:.2f} s each): {means}")
            meters.clear()
        if time.monotonic() - saved > SAVE_SECONDS:
            _save(state_file, step + 1, model, optimiser, schedule, average, stage)
            saved = time.monotonic()
    model.load_state_dict(average, strict=False)
    state_file.unlink(missing_ok=True)


def backward(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Compute gradients of the sum of the losses; measurements, which need no gradient, are left out."""
    total = sum(part for part in parts.values() if part.requires_grad)
    assert isinstance(total, Tensor)
    torch.autograd.backward(total)
    return {name: part.detach() for name, part in parts.items()}


def _groups(model: nn.Module, pretrained: set[nn.Parameter], stage: Stage) -> list[dict[str, Any]]:
    """Parameters by whether they are pretrained and decay: biases, norms and scalars do not."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        groups.setdefault((parameter in pretrained, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": members,
            "lr": stage.rate * (stage.trunk_rate if slow else 1.0),
            "weight_decay": stage.decay if decays else 0.0,
        }
        for (slow, decays), members in groups.items()
    ]


@torch.no_grad()
def _average(average: Mapping[str, Tensor], model: nn.Module, decay: float) -> None:
    parameters = dict(model.named_parameters())
    torch._foreach_lerp_(list(average.values()), [parameters[name] for name in average], 1 - decay)


def _save(
    file: Path, step: int, model: nn.Module, optimiser: Any, schedule: Any, average: Any, stage: Stage
) -> None:
    state = {
        "step": step,
        "stage": repr(stage),
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "schedule": schedule.state_dict(),
        "average": average,
    }
    with replacing(file) as part:
        torch.save(state, part)


def _resume(file: Path, model: nn.Module, optimiser: Any, schedule: Any, average: Any, stage: Stage) -> int:
    """Load a state if there is one; the step to go on with."""
    if not file.exists():
        return 0
    state = torch.load(file, map_location=next(model.parameters()).device, weights_only=True)
    if state["stage"] != repr(stage):
        raise ConfigError(f"{file} is of another training ({state['stage']}): remove it, or choose another output")
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    schedule.load_state_dict(state["schedule"])
    average.update(state["average"])
    return int(state["step"])
