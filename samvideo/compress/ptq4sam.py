"""PTQ4SAM's quantisers (Lv et al. 2024): bimodal keys, softmax in powers of two, rounding that is learned.

Counterpart: chengtao-lv/PTQ4SAM.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.signal import find_peaks
from scipy.stats import gaussian_kde
from torch import Tensor

from samvideo.compress.affine import Affine, bounded, least_width, mean_error

TAUS = (1, 2, 4)
"""Steps per power of two that the softmax may have."""
POINTS = 128
"""At which the density of keys is looked at."""
HEIGHT = 0.01
"""Least height of a peak of it, as a share of the sum of all points."""
DISTANCE = 32
"""Least distance of two peaks, in points."""
STRETCH = (-0.1, 1.1)
"""Ends of the stretched sigmoid of learned rounding (Nagel et al. 2020, AdaRound)."""


@dataclass(frozen=True)
class LogSoftmax:
    """Rounds to scale · 2^(-q / tau), q an integer; what is too small for its bits becomes 0.

    Attributes:
        scale: the largest value.
        tau: steps per power of two.
        bits: of the integers.
    """

    scale: float
    tau: int
    bits: int

    def __call__(self, x: Tensor) -> Tensor:
        """Nearest values, nearest in the logarithm."""
        steps = (-self.tau * torch.log2(x / self.scale)).round().clamp(min=0)
        return torch.where(steps < 2**self.bits, self.scale * 2 ** (-steps / self.tau), 0)


class SoftmaxSearch:
    """The steps per power of two with the least error in the product of softmax and values.

    Args:
        bits: of the quantiser.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.scales: list[tuple[float, ...]] = []
        self.errors: list[tuple[float, ...]] = []

    def observe(self, x: Tensor, values: Tensor) -> None:
        """Take a batch into account: (..., N, M) after the softmax and (..., M, C) values."""
        mixed = x @ values
        width = float(x.max())

        def error(scale: float, tau: int) -> float:
            return mean_error(LogSoftmax(scale, tau, self.bits)(x) @ values, mixed)

        found = [bounded(lambda scale, tau=tau: error(scale, tau), least_width(width), width) for tau in TAUS]
        scales, errors = zip(*found, strict=True)
        self.scales.append(scales)
        self.errors.append(errors)

    def quantiser(self) -> LogSoftmax:
        """Of the batches so far: errors are summed, scales averaged."""
        best = int(np.sum(self.errors, 0).argmin())
        return LogSoftmax(float(np.mean(self.scales, 0)[best]), TAUS[best], self.bits)


def bimodal_sign(keys: Tensor) -> Tensor | None:
    """The sign of each channel's mean if the density of all keys has exactly two peaks, else None.

    Queries and keys times the sign have the same product, and such keys have one peak.

    Args:
        keys: (..., C).

    Returns:
        (C,), of -1 and 1.
    """
    flat = keys.flatten().double().numpy()
    if np.ptp(flat) == 0:
        return None
    density = gaussian_kde(flat)(np.linspace(flat.min(), flat.max(), POINTS))
    peaks, _ = find_peaks(density, height=HEIGHT * density.sum(), distance=DISTANCE)
    return torch.where(keys.flatten(0, -2).mean(0) < 0, -1.0, 1.0) if len(peaks) == 2 else None


def alpha_of(weight: Tensor, quantiser: Affine) -> Tensor:
    """Where the variables of learned rounding begin: the soft weight is the weight itself."""
    steps = weight / quantiser.scale
    low, high = STRETCH
    return -torch.log((high - low) / (steps - steps.floor() - low) - 1)


def rounded_up(alpha: Tensor) -> Tensor:
    """How far weights are rounded up, 0 to 1."""
    low, high = STRETCH
    return ((high - low) * alpha.sigmoid() + low).clamp(0, 1)


def soft_weight(weight: Tensor, quantiser: Affine, alpha: Tensor) -> Tensor:
    """The quantised weight while rounding is learned."""
    return quantiser.values((weight / quantiser.scale).floor() + rounded_up(alpha))


def hard_weight(weight: Tensor, quantiser: Affine, alpha: Tensor) -> Tensor:
    """The quantised weight with the rounding that was learned."""
    return quantiser.values((weight / quantiser.scale).floor() + (alpha >= 0))
