"""Uniform quantisers, and how their ranges are found."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

POWER = 2.4
"""Of the errors that searched ranges minimise the sum of, as PTQ4SAM has it."""
STEPS = 100
"""Ranges that the search over a weight tries."""


@dataclass(frozen=True)
class Affine:
    """Rounds to multiples of a scale: q = clamp(round(x / scale) + zero, 0, 2^bits - 1), x' = (q - zero) scale.

    Attributes:
        scale: step; one number, or of a shape that the input broadcasts with.
        zero: the integer that stands for 0, of the same shape.
        bits: of the integers.
    """

    scale: Tensor
    zero: Tensor
    bits: int

    @classmethod
    def of_range(cls, low: Tensor, high: Tensor, bits: int) -> "Affine":
        """Of a range, which is widened to include 0."""
        low, high = low.clamp(max=0), high.clamp(min=0)
        scale = ((high - low) / (2**bits - 1)).clamp(min=torch.finfo(low.dtype).eps)
        return cls(scale, (-(low / scale).round()).clamp(0, 2**bits - 1), bits)

    @property
    def top(self) -> int:
        """The largest integer."""
        return int(2**self.bits - 1)

    def __call__(self, x: Tensor) -> Tensor:
        """The nearest values that the integers stand for."""
        return self.values((x / self.scale).round())

    def values(self, steps: Tensor) -> Tensor:
        """What numbers of steps stand for, within the range."""
        return ((steps + self.zero).clamp(0, self.top) - self.zero) * self.scale


class MeanRange:
    """Smallest and largest value, averaged over batches by their numbers of values.

    Args:
        bits: of the quantiser.
        find: from a batch to the range that counts; its extremes when None.
    """

    def __init__(self, bits: int, find: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None) -> None:
        self.bits = bits
        self.find = find or torch.aminmax
        self.low, self.high, self.seen = torch.zeros(()), torch.zeros(()), 0

    def observe(self, x: Tensor, values: Tensor | None = None) -> None:
        """Take a batch into account."""
        low, high = self.find(x)
        self.seen += x.numel()
        self.low = self.low + (low - self.low) * (x.numel() / self.seen)
        self.high = self.high + (high - self.high) * (x.numel() / self.seen)

    def quantiser(self) -> Affine:
        """Of the range so far."""
        return Affine.of_range(self.low, self.high, self.bits)


def search_weight(weight: Tensor, bits: int) -> Affine:
    """The quantiser of each row with the least sum of |error|^2.4.

    Tried are hundredths of the row's range, times every zero point. If no weight at all is negative, the zero point
    is 0, and if none is positive, the largest integer. Counterpart: PTQ4SAM: quantization/observer.py.

    Args:
        weight: (rows, columns).

    Returns:
        With scale and zero point (rows, 1).
    """
    top = 2**bits - 1
    lows, highs = weight.aminmax(dim=1)
    if weight.min() >= 0:
        spans, zeros = highs, torch.zeros(1)
    elif weight.max() <= 0:
        spans, zeros = -lows, torch.full((1,), float(top))
    else:
        spans, zeros = highs - lows, torch.arange(top + 1, dtype=weight.dtype)
    shares = torch.arange(1, STEPS + 1).repeat_interleave(len(zeros)) / STEPS
    zeros = zeros.repeat(STEPS)
    spans = spans.clamp(min=torch.finfo(weight.dtype).eps)
    found = [_best(row, shares * (span / top), zeros, bits) for row, span in zip(weight, spans, strict=True)]
    scales, points = zip(*found, strict=True)
    return Affine(torch.stack(scales)[:, None], torch.stack(points)[:, None], bits)


def _best(row: Tensor, scales: Tensor, zeros: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Which of many scales and zero points has the least error.

    Few have to be tried: what is cut off the two extremes alone often is more than the error of another.
    """

    def errors(at: Tensor) -> Tensor:
        return (Affine(scales[at, None], zeros[at, None], bits)(row) - row).abs_().pow_(POWER).sum(1)

    low, high = row.aminmax()
    cut = (-zeros * scales - low).clamp(min=0) ** POWER + (high - (2**bits - 1 - zeros) * scales).clamp(
        min=0
    ) ** POWER
    # the bound and the error round differently
    tried = (cut <= errors(cut.argmin()[None]) * (1 + 1e-4)).nonzero()[:, 0]
    best = tried[errors(tried).argmin()]
    return scales[best], zeros[best]


def search_range(x: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """The part of a batch's range whose quantiser has the least mean |error|^2.4, by bounded scalar searches.

    One over its width with one over its place inside. Counterpart: PTQ4SAM: quantization/observer.py.
    """
    low, high = (float(end) for end in x.aminmax())

    def error(shift: float, width: float) -> float:
        return mean_error(Affine.of_range(x.new_tensor(-shift), x.new_tensor(width - shift), bits)(x), x)

    def place(width: float) -> tuple[float, float]:
        return bounded(partial(error, width=width), 0.0, width)

    if low == high:
        return x.new_tensor(low), x.new_tensor(high)
    width, _ = bounded(lambda width: place(width)[1], least_width(high - low), high - low)
    shift, _ = place(width)
    return x.new_tensor(max(-shift, low)), x.new_tensor(min(width - shift, high))


def least_width(width: float) -> float:
    """Where searches of a range of this width begin."""
    return min(0.1, 0.01 * width)


def bounded(function: Callable[[float], float], low: float, high: float) -> tuple[float, float]:
    """Where a function of one number between bounds is least, and its value there."""
    found = minimize_scalar(function, bounds=(low, high), method="bounded")
    return float(found.x), float(found.fun)


def mean_error(a: Tensor, b: Tensor) -> float:
    """Mean |a - b|^2.4."""
    return float((a - b).abs().pow(POWER).mean())
