"""Distillation without labels: a cut encoder learns the feature maps of the one that it was cut from."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from samvideo.encoders.base import ImageEncoder
from samvideo.errors import ConfigError

Images = Sequence[Tensor]
"""Inputs of an encoder, (1, 3, H, W) each, of one size."""
Report = Callable[[int, int, float], None]
"""Called after each step with its number, the number of all and the loss."""
CLIP = 1.0
"""Largest norm of the gradients of a step."""


@dataclass(frozen=True)
class Training:
    """How long and how fast an encoder learns.

    Attributes:
        steps: 0 for none.
        batch: images of a step.
        rate: of Adam at the beginning; it falls to 0 along a line. 1e-4 is SlimSAM's.
        seed: of the order of the images.
    """

    steps: int
    batch: int = 4
    rate: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.rate < math.inf:
            raise ConfigError(f"learning rate {self.rate}: more than 0 expected")


@dataclass(frozen=True, eq=False)
class Guide:
    """An encoder whose inner features are learned at first.

    Attributes:
        encoder: the teacher itself, or one between it and the student.
        pairs: modules of the student and of this encoder whose outputs have equal shapes.
    """

    encoder: ImageEncoder
    pairs: list[tuple[nn.Module, nn.Module]] = field(default_factory=list)


def maps_of(encoder: ImageEncoder, images_bchw: Tensor) -> tuple[Tensor, ...]:
    """The coarse map, and the finer ones if there are any."""
    coarse, fine = encoder(images_bchw)
    return coarse, *fine


def feature_error(ours: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Σ (a - b)^2 / Σ b^2, averaged over the maps."""
    shares = [(a - b).square().sum() / b.square().sum() for a, b in zip(ours, wanted, strict=True)]
    return torch.stack(shares).mean()


def distil(
    student: ImageEncoder,
    teacher: ImageEncoder,
    images: Images,
    training: Training,
    guide: Guide | None = None,
    report: Report | None = None,
) -> None:
    """Train an encoder, in place, to have the feature maps of another.

    (1 - a) E(student, teacher) + a (E(student, guide) + the mean E of inner features), where a falls from 1 to 0 in
    the first half of the steps; E is `feature_error`, so that all terms have one scale. SlimSAM (Chen et al. 2023)
    adds up squared errors instead.

    Args:
        student: its parameters are trained.
        teacher: of the same inputs and maps.
        images: no labels are needed.
        training: how.
        guide: without one, the maps alone are learned.
        report: of the progress.

    Raises:
        ConfigError: the loss is no longer finite.
    """
    generator = torch.Generator().manual_seed(training.seed)
    device = next(student.parameters()).device
    optimiser = torch.optim.Adam(student.parameters(), training.rate)
    for step in range(training.steps):
        for group in optimiser.param_groups:
            group["lr"] = training.rate * (1 - step / training.steps)
        chosen = torch.randint(len(images), (training.batch,), generator=generator).tolist()
        batch = torch.cat([images[i] for i in chosen]).to(device)
        share = max(0.0, 1 - 2 * step / training.steps) if guide is not None else 0.0
        loss = (1 - share) * _error(student, teacher, batch, []) if share < 1 else torch.zeros((), device=device)
        if guide is not None and share > 0:
            loss = loss + share * _error(student, guide.encoder, batch, guide.pairs)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(student.parameters(), CLIP)
        optimiser.step()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ConfigError(
                f"the loss is {value} after {step + 1} steps at a learning rate of {training.rate}: lower it"
            )
        if report is not None:
            report(step + 1, training.steps, value)


def _error(
    student: ImageEncoder, other: ImageEncoder, batch: Tensor, pairs: Sequence[tuple[nn.Module, nn.Module]]
) -> Tensor:
    """`feature_error` of the maps and, if there are pairs, the mean of that of their outputs."""
    with _outputs([theirs for _, theirs in pairs]) as wanted, torch.no_grad():
        wanted_maps = maps_of(other, batch)
    with _outputs([ours for ours, _ in pairs]) as found:
        error = feature_error(maps_of(student, batch), wanted_maps)
    return error + feature_error(found, wanted) if pairs else error


@contextmanager
def _outputs(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Gather the outputs of modules that run within the block, in their order of running."""
    found: list[Tensor] = []
    handles = [module.register_forward_hook(lambda _, args, out: found.append(out)) for module in modules]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
