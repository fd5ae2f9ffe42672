"""One loop for all trainings: AdamW, warm-up and cosine, gradient clipping, averaged weights, resumable."""

import io
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from samvideo.errors import ConfigError, SamVideoError
from samvideo.interrupt import Interrupt
from samvideo.io.files import write_atomically
from samvideo.training.events import Events

Log = Callable[[str], None]
Gradients = Callable[[int], Mapping[str, Tensor]]
"""Leaves the gradients of step k in the parameters; returns what is to be logged."""
REPORT_SECONDS = 60.0
"""Between two lines of the log, each with a state on disk; reading a loss waits for a CUDA device."""


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


@dataclass(frozen=True)
class Validation:
    """What is measured in the course of a training, with the averaged weights.

    Attributes:
        measure: returns what goes into the log by name, or nothing; it changes nothing, random numbers apart.
        every: steps between two measurements; there is one before the first step and one after the last, too.
        patience: end after so many measurements without a higher first value; the result is then the best average,
            which may be that before the first step, instead of the last. None: train to the end.
    """

    measure: Callable[[], Mapping[str, float]]
    every: int
    patience: int | None = None


def fit(
    model: nn.Module,
    gradients: Gradients,
    stage: Stage,
    state_file: Path,
    log: Log,
    pretrained: Iterable[nn.Parameter] = (),
    validation: Validation | None = None,
    events: Path | None = None,
    rank: int = 0,
) -> None:
    """Train in place; the model has the averaged weights afterwards.

    Args:
        model: in evaluation mode: batch norms keep their statistics.
        gradients: computes those of a step, see `backward`.
        stage: length, rates and seed.
        state_file: state of the unfinished stage, which a training goes on from; the caller removes it in the end.
        log: gets a line every `REPORT_SECONDS`.
        pretrained: parameters that learn more slowly.
        validation: what is measured now and then.
        events: folder for event files of TensorBoard, see `Events`.
        rank: of this process, of those that train together: only the first writes its state.

    Raises:
        ConfigError: the state is of another model or stage.
        SamVideoError: the training diverged.
        OutputError: the state cannot be written.
        KeyboardInterrupt: a signal asked for the end; the state is written.
    """
    training = _Training(model, stage, pretrained)
    training.restore(state_file, log)
    meters = _Meters(training.step)
    with closing(Events(events, training.step)) as board, Interrupt() as stop:
        if validation and training.step == 0:
            training.validate(validation, meters, board, log)
        while training.step < stage.steps and not training.ended:
            torch.manual_seed(stage.seed * 1_000_003 + training.step)
            meters.add(gradients(training.step))
            training.update()
            last = training.step == stage.steps
            if validation and (last or training.step % validation.every == 0):
                training.validate(validation, meters, board, log)
            if stop.requested or last or training.ended or meters.seconds > REPORT_SECONDS:
                board.add("training", meters.report(training.step, stage.steps, log), training.step)
                training.save(state_file, rank)
            if stop.requested:
                log(f"interrupted after step {training.step}: the same command resumes it")
                raise KeyboardInterrupt
    training.finish(log)


def backward(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Compute gradients of the sum of the losses; measurements, which need no gradient, are left out."""
    total = sum(part for part in parts.values() if part.requires_grad)
    assert isinstance(total, Tensor)
    torch.autograd.backward(total)
    return {name: part.detach() for name, part in parts.items()}


_OWN = ("step", "best", "best_step", "highest", "stale", "ended")
"""What is saved of a training as it is."""


class _Training:
    """All that changes in the course of a stage."""

    def __init__(self, model: nn.Module, stage: Stage, pretrained: Iterable[nn.Parameter]) -> None:
        self.model, self.stage, self.step = model, stage, 0
        self.optimiser = torch.optim.AdamW(_groups(model, set(pretrained), stage))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, stage.factor)
        self.average = {name: value.detach().clone() for name, value in model.named_parameters()}
        self.norm = torch.zeros(())
        self.best: dict[str, Tensor] = {}
        self.best_step = 0
        self.highest, self.stale, self.ended = -math.inf, 0, False

    def update(self) -> None:
        """Change the weights by their gradients."""
        self.norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.stage.clip)
        self.optimiser.step()
        self.schedule.step()
        self.step += 1
        parameters = dict(self.model.named_parameters())
        decay = min(self.stage.average, self.step / (self.step + 9))
        with torch.no_grad():
            values: list[Tensor] = [parameters[name] for name in self.average]
            torch._foreach_lerp_(list(self.average.values()), values, 1 - decay)

    def validate(self, validation: Validation, meters: "_Meters", board: Events, log: Log) -> None:
        """Measure the averaged weights; with a patience, keep the best, and end the training if it is time."""
        self.check()
        with meters.paused(), self.averaged():
            found = dict(validation.measure())
        if not found:
            return
        board.add("validation", found, self.step)
        when = f"after step {self.step}" if self.step else "before training"
        log(f"validation {when}: {_written(found)}")
        if validation.patience is None:
            return
        if (first := next(iter(found.values()))) > self.highest:
            self.highest, self.stale, self.best_step = first, 0, self.step
            self.best = {name: value.clone() for name, value in self.average.items()}
        else:
            self.stale += 1
            self.ended = self.stale >= validation.patience

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model has the averaged weights within the block."""
        parameters = dict(self.model.named_parameters())
        own = {name: parameters[name].data for name in self.average}
        for name, value in self.average.items():
            parameters[name].data = value
        try:
            yield
        finally:
            for name, value in own.items():
                parameters[name].data = value

    def finish(self, log: Log) -> None:
        """Give the model the weights that are the result."""
        if self.ended:
            log(f"ended after step {self.step}: the validations before the last ones were better")
        if self.best and self.best_step == 0:
            log("no validation was better than that before training: the result is the weights that it began with")
        self.model.load_state_dict(self.best or self.average, strict=False)

    def check(self) -> None:
        """Raise SamVideoError if the last gradient was not finite: from then on, no weight is."""
        if not bool(self.norm.isfinite()):
            raise SamVideoError(
                f"training diverged before step {self.step}, its gradients are not finite: more clips a step, "
                f"another seed or a rate below {self.stage.rate} may help"
            )

    def save(self, file: Path, rank: int) -> None:
        """Write the state, in the first process, unless the training diverged."""
        self.check()
        if rank:
            return
        parts = {name: getattr(self, name).state_dict() for name in ("model", "optimiser", "schedule")}
        content = io.BytesIO()
        ours = {name: getattr(self, name) for name in _OWN}
        torch.save({"stage": repr(self.stage), "average": self.average, **ours, **parts}, content)
        write_atomically(file, content.getvalue())

    def restore(self, file: Path, log: Log) -> None:
        """Go on from a state, if there is one.

        Raises:
            ConfigError: it is damaged, or of another model or stage.
        """
        if not file.exists():
            return
        remedy = "remove it to begin this stage again, or choose another output"
        device = next(self.model.parameters()).device
        try:
            state: dict[str, Any] = torch.load(file, map_location=device, weights_only=True)
            if state["stage"] != repr(self.stage):
                raise ConfigError(f"{file} is of another training ({state['stage']}): {remedy}")
            for name in ("model", "optimiser", "schedule"):
                getattr(self, name).load_state_dict(state[name])
            self.average.update(state["average"])
            for name in _OWN:
                setattr(self, name, state[name])
        except ConfigError:
            raise
        except Exception as error:  # unpickling raises nearly anything
            raise ConfigError(
                f"{file} is not a state of this training ({type(error).__name__}): {remedy}"
            ) from error
        log(f"resumed after step {self.step}")


class _Meters:
    """Means of losses and measurements since the last line of the log."""

    def __init__(self, step: int) -> None:
        self._values: dict[str, list[Tensor]] = {}
        self._step, self._began = step, time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the last line, pauses left out."""
        return time.monotonic() - self._began

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done within the block does not count as time of the steps."""
        began = time.monotonic()
        yield
        self._began += time.monotonic() - began

    def add(self, parts: Mapping[str, Tensor]) -> None:
        """Of one step."""
        for name, part in parts.items():
            self._values.setdefault(name, []).append(part)

    def report(self, step: int, steps: int, log: Log) -> dict[str, float]:
        """Log the means, after some steps of all, and return them; the next line begins."""
        each = self.seconds / (step - self._step)
        means = {name: torch.stack(values).nanmean().item() for name, values in self._values.items()}
        self.__init__(step)  # type: ignore[misc]
        log(f"step {step}/{steps} ({each:.2f} s each): {_written(means)}")
        return means


def _written(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())


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
