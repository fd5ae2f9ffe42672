"""PTQ4SAM's quantisers (Lv et al. 2024): bimodal keys, softmax in powers of two, rounding that is learned.

Counterpart: chengtao-lv/PTQ4SAM.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy.signal import find_peaks
from scipy.stats import gaussian_kde
from torch import Tensor, nn

from samvideo.compress.affine import (
    Affine,
    MeanRange,
    bounded,
    least_width,
    mean_error,
    search_range,
    search_weight,
)
from samvideo.compress.fake import Kind, Layer, Method, Observer, Quantiser, rows_of
from samvideo.nn.attention import Attention

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

    def observe(self, x: Tensor, values: Tensor | None = None) -> None:
        """Take a batch into account: (..., N, M) after the softmax and (..., M, C) values."""
        assert values is not None
        mixed = x @ values
        width = float(x.max())

        def error(scale: float, tau: int) -> float:
            return mean_error(LogSoftmax(scale, tau, self.bits)(x) @ values, mixed)

        found = [bounded(partial(error, tau=tau), least_width(width), width) for tau in TAUS]
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


@dataclass(frozen=True)
class PTQ4SAM(Method):
    """All of it but the reconstruction block by block and the learned steps of activations.

    Rounding is learned layer by layer. First layers, which see pixels, stay as they are, and so do transposed
    convolutions.

    Attributes:
        steps: of learning how the weights of a layer are rounded; to the nearest with 0. Published: 20000.
        rate: of learning.
        regularisation: weight of the term that drives the rounding to 0 or 1.
    """

    bits: int = 6
    samples: int = 4
    steps: int = 100
    rate: float = 0.01
    regularisation: float = 0.01

    def prepare(self, model: nn.Module, run: Callable[[], object]) -> None:
        """Fold the sign of bimodal keys of token-to-image attention into both projections."""
        attentions = [
            module
            for name, module in model.named_modules()
            if isinstance(module, Attention) and name.endswith("token_to_image")
        ]
        keys: dict[int, Tensor] = {}
        handles = [
            attention.k_proj.register_forward_hook(lambda _, __, out, i=i: _keep_first(keys, i, out))
            for i, attention in enumerate(attentions)
        ]
        run()
        for handle in handles:
            handle.remove()
        for i, first in keys.items():
            sign = bimodal_sign(first)
            if sign is not None:
                for layer in (attentions[i].q_proj, attentions[i].k_proj):
                    layer.weight.mul_(sign[:, None])
                    layer.bias.mul_(sign)

    def skips(self, layer: Layer) -> bool:
        """See `Method.skips`."""
        return isinstance(layer, nn.Conv2d) and layer.in_channels == 3

    def observer(self, kind: Kind, layer: Layer | None = None) -> Observer:
        """See `Method.observer`."""
        if kind == "softmax":
            return SoftmaxSearch(self.bits)
        return MeanRange(self.bits, (lambda x: search_range(x, self.bits)) if kind == "key" else None)

    def weight(self, layer: Layer, inputs: list[Tensor], quantiser: Quantiser) -> Tensor:
        """See `Method.weight`."""
        rows = rows_of(layer.weight)
        found = search_weight(rows, self.bits)
        alpha = alpha_of(rows, found)
        if self.steps and inputs:
            alpha = self._learn(layer, rows, found, alpha, inputs, quantiser)
        return hard_weight(rows, found, alpha).view_as(layer.weight)

    def _learn(
        self, layer: Layer, rows: Tensor, found: Affine, alpha: Tensor, inputs: list[Tensor], quantiser: Quantiser
    ) -> Tensor:
        """Alpha with which the output is nearest to the layer's own; half of the inputs' numbers are quantised."""
        with torch.no_grad():
            wanted = [layer(x) for x in inputs]
        alpha = alpha.clone().requires_grad_()
        optimiser = torch.optim.Adam([alpha], self.rate)
        for step in range(self.steps):
            x, y = inputs[step % len(inputs)], wanted[step % len(inputs)]
            # QDrop (Wei et al. 2022)
            x = torch.where(torch.rand_like(x) < 0.5, quantiser(x), x)
            weight = soft_weight(rows, found, alpha).view_as(layer.weight)
            out = torch.func.functional_call(layer, {"weight": weight}, (x,))
            loss = (out - y).square().sum() / (y.numel() / y.shape[-1 if isinstance(layer, nn.Linear) else 1])
            warm = 0.2 * self.steps
            if step >= warm:
                power = 2 + 18 * (self.steps - step) / (self.steps - warm)
                loss = loss + self.regularisation * (1 - (2 * rounded_up(alpha) - 1).abs().pow(power)).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return alpha.detach()


def _keep_first(keys: dict[int, Tensor], index: int, out: Tensor) -> None:
    keys.setdefault(index, out[:1].clone())
