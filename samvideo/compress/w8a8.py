"""Symmetric quantisers with calibrated steps, as Q-TinySAM has them (Shu et al. 2023).

What a GELU or a softmax puts out has two steps (Yuan et al. 2022, PTQ4ViT). The published weights came without the
code that calibrates: here, each step has the least squared error on a batch, averaged over batches.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from samvideo.compress.fake import Kind, Layer, Method, Observer, Quantiser, rows_of

GELU_LOW = 0.16997
"""How far a GELU goes below 0."""
SHARES = tuple(i / 100 for i in range(40, 101, 4))
"""Of the largest value, where the range may end."""
SAMPLE = 1 << 16
"""Values of a batch, evenly spaced, on which the error of a step is measured."""
SPLITS = tuple(2.0**-i for i in range(11))
"""Where the softmax may change its step."""


@dataclass(frozen=True)
class Symmetric:
    """Rounds the distance from an offset to multiples of a step, bits - 1 bits and a sign.

    Attributes:
        step: one number or, for weights, (rows, 1).
        bits: of the integers.
        offset: subtracted before, added after.
    """

    step: Tensor
    bits: int
    offset: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """The nearest values."""
        half = 2 ** (self.bits - 1)
        return ((x - self.offset) / self.step).round().clamp(-half, half - 1) * self.step + self.offset


@dataclass(frozen=True)
class AfterGelu:
    """One step above 0, another one below, which every GELU shares."""

    step: Tensor
    bits: int

    def __call__(self, x: Tensor) -> Tensor:
        """The nearest values."""
        half = 2 ** (self.bits - 1)
        below = GELU_LOW / half
        return torch.where(
            x > 0,
            (x / self.step).round().clamp(max=half - 1) * self.step,
            (x / below).round().clamp(min=-half) * below,
        )


@dataclass(frozen=True)
class SplitSoftmax:
    """A fine step up to the split, above it one that reaches 1."""

    split: float
    bits: int

    def __call__(self, x: Tensor) -> Tensor:
        """The nearest values."""
        top = 2 ** (self.bits - 1) - 1
        return torch.where(
            x > self.split, (x * top).round() / top, (x * (top / self.split)).round() * self.split / top
        )


def best_step(x: Tensor, largest: Tensor, bits: int, rounding: Callable[[Tensor], Quantiser]) -> Tensor:
    """The step with the least squared error: a share of that which reaches the largest value.

    Args:
        x: one row, or (rows, columns) with a step for each.
        largest: (rows, 1).
        bits: of the integers.
        rounding: the quantiser of a step.
    """
    full = (largest / (2 ** (bits - 1) - 1)).clamp(min=torch.finfo(x.dtype).eps)
    steps = torch.stack([full * share for share in SHARES])
    errors = torch.stack([(rounding(step)(x) - x).square().sum(1, keepdim=True) for step in steps])
    return steps.gather(0, errors.argmin(0, keepdim=True))[0]


class StepSearch:
    """Step of an activation.

    Args:
        bits: of the quantiser.
        centred: whether the middle of the range is subtracted.
    """

    def __init__(self, bits: int, centred: bool = False) -> None:
        self.bits, self.centred = bits, centred
        self.steps: list[Tensor] = []
        self.offsets: list[Tensor] = []
        self.gelu = True

    def observe(self, x: Tensor, values: Tensor | None = None) -> None:
        """Take a batch into account."""
        row = x.reshape(1, -1)
        low, high = row.aminmax()
        self.gelu &= bool(-GELU_LOW - 1e-4 < low < -GELU_LOW / 2 and high > GELU_LOW)
        offset = (low + high) / 2 if self.centred else torch.zeros(())
        largest = (row - offset).abs().amax(1, keepdim=True)
        some = row[:, :: -(-row.shape[1] // SAMPLE)]
        step = best_step(some, largest, self.bits, lambda s: Symmetric(s, self.bits, offset))
        self.steps.append(step[0, 0])
        self.offsets.append(offset)

    def quantiser(self) -> Quantiser:
        """Of the batches so far; with two steps if all of them look like a GELU's output."""
        step = torch.stack(self.steps).mean()
        if self.gelu and not self.centred:
            return AfterGelu(step, self.bits)
        return Symmetric(step, self.bits, torch.stack(self.offsets).mean())


class SplitSearch:
    """The split of the softmax with the least squared error in its product with the values."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.errors = torch.zeros(len(SPLITS), dtype=torch.float64)

    def observe(self, x: Tensor, values: Tensor | None = None) -> None:
        """Take a batch into account."""
        assert values is not None
        for i, split in enumerate(SPLITS):
            self.errors[i] += float(((SplitSoftmax(split, self.bits)(x) - x) @ values).square().sum())

    def quantiser(self) -> SplitSoftmax:
        """Of the batches so far."""
        return SplitSoftmax(SPLITS[int(self.errors.argmin())], self.bits)


@dataclass(frozen=True)
class W8A8(Method):
    """TinySAM's, with a step for each row of a weight; 8 bits unless stated otherwise."""

    def observer(self, kind: Kind, layer: Layer | None = None) -> Observer:
        """See `Method.observer`."""
        if kind == "softmax":
            return SplitSearch(self.bits)
        return StepSearch(self.bits, centred=isinstance(layer, nn.Conv2d))

    def weight(self, layer: Layer, inputs: list[Tensor], quantiser: Quantiser) -> Tensor:
        """See `Method.weight`."""
        rows, none = rows_of(layer.weight), torch.zeros(())
        largest = rows.abs().amax(1, keepdim=True)
        step = best_step(rows, largest, self.bits, lambda s: Symmetric(s, self.bits, none))
        return Symmetric(step, self.bits, none)(rows).view_as(layer.weight)
