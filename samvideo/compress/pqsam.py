"""PQ-SAM's grouped shift and scale (Liu et al. 2024): channels are made alike before one step rounds them all.

There is no published code, and the paper leaves the rule of clustering and the number of groups open. What it
states is kept: extreme values are truncated first, similar channels share a shift and a scale, groups are made one
after the other, and shifts, scales and the step are learned together. The rest is chosen here: a channel is where
99.8 % of its values are, the group that is least alike is split in two until there are `GROUPS`, and learning
minimises the squared error of the layer's output.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from samvideo.compress.affine import MeanRange
from samvideo.compress.fake import Kind, Layer, Method, Observer, Quantiser, rows_of
from samvideo.compress.w8a8 import Symmetric, best_step

GROUPS = 8
"""Of channels, at most."""
TRUNCATED = 0.001
"""Share of a channel's values that is left out at either end."""
TOKENS = 512
"""Of a batch, evenly spaced, that are learned from."""
BATCHES = 8
"""That are learned from, at most."""
POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the ranges of groups, which scales may begin with."""
EPS = 1e-6


@dataclass(frozen=True)
class Grouped:
    """Rounds (x - shift) / scale to multiples of one step.

    Attributes:
        shift, scale: (C, 1, 1) for maps (B, C, H, W), (C,) for tokens.
        step: one number, of the integers.
        bits: of the integers, one of which is the sign.
    """

    shift: Tensor
    scale: Tensor
    step: Tensor
    bits: int

    def __call__(self, x: Tensor) -> Tensor:
        """The nearest values."""
        shift, scale = self.shift.to(x), self.scale.to(x)
        half = 2 ** (self.bits - 1)
        return _round((x - shift) / (scale * self.step), half) * self.step * scale + shift


def _round(x: Tensor, half: int) -> Tensor:
    """Integers, through which gradients pass as if nothing was rounded."""
    clamped = x.clamp(-half, half - 1)
    return clamped + (clamped.round() - clamped).detach()


def group_channels(low: Tensor, high: Tensor, count: int = GROUPS) -> Tensor:
    """Groups of channels with similar ranges.

    Args:
        low, high: (C,) ends of the ranges.
        count: groups at most; fewer where all channels of a group are equal.

    Returns:
        (C,) number of the group.
    """
    ends = torch.stack([low, high], 1)
    groups = torch.zeros(len(ends), dtype=torch.long)
    for new in range(1, count):
        spreads = [(ends[groups == g] - ends[groups == g].mean(0)).square().sum() for g in range(new)]
        widest = int(torch.stack(spreads).argmax())
        if spreads[widest] == 0:
            break
        members = (groups == widest).nonzero()[:, 0]
        groups[members[_halves(ends[members])]] = new
    return groups


def _halves(ends: Tensor) -> Tensor:
    """(n,) bool: of two parts with the least sum of squared distances to their means, those in the second.

    The parts are either side of a place along the end that varies most.
    """
    column = ends.var(0, correction=0).argmax()
    order = ends[:, column].argsort(stable=True)
    x = ends[order].double()
    n = torch.arange(1, len(x), dtype=torch.double)[:, None]
    sums, squares = x.cumsum(0), x.square().cumsum(0)
    within = squares[:-1] - sums[:-1].square() / n
    beyond = squares[-1] - squares[:-1] - (sums[-1] - sums[:-1]).square() / (len(x) - n)
    second = torch.zeros(len(x), dtype=torch.bool)
    second[order[int((within + beyond).sum(1).argmin()) + 1 :]] = True
    return second


class GroupedSearch:
    """Ranges of the channels of a layer's input.

    Args:
        layer: whose input it is.
        method: options.
    """

    def __init__(self, layer: Layer, method: "PQSAM") -> None:
        self.layer, self.method = layer, method
        self.maps = isinstance(layer, nn.Conv2d)
        self.low, self.high, self.batches = torch.zeros(()), torch.zeros(()), 0
        self.kept: list[Tensor] = []

    def observe(self, x: Tensor, values: Tensor | None = None) -> None:
        """Take a batch into account."""
        rows = (x.movedim(1, -1) if self.maps else x).flatten(0, -2)
        some = rows[:: -(-len(rows) // TOKENS)].float()
        ends = torch.quantile(some, torch.tensor([TRUNCATED, 1 - TRUNCATED], dtype=some.dtype), 0)
        self.batches += 1
        self.low = self.low + (ends[0] - self.low) / self.batches
        self.high = self.high + (ends[1] - self.high) / self.batches
        if len(self.kept) < BATCHES:
            self.kept.append(some.clone())

    def quantiser(self) -> Grouped:
        """Of the batches so far, learned."""
        groups = group_channels(self.low, self.high)
        members = [groups == group for group in range(int(groups.max()) + 1)]
        low = torch.stack([self.low[own].min() for own in members])
        high = torch.stack([self.high[own].max() for own in members])
        shift, scale, step = self._begin(groups, (low + high) / 2, ((high - low) / 2).clamp(min=EPS))
        if self.method.steps:
            shift, scale, step = self._learn(groups, shift, scale, step)
        shift, scale = shift[groups], scale[groups]
        if self.maps:
            shift, scale = shift[:, None, None], scale[:, None, None]
        return Grouped(shift, scale, step, self.method.bits)

    def _begin(self, groups: Tensor, shift: Tensor, reach: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scales between equal ones and the ranges: those with the least error of input and weights together.

        Scales multiply the weights, so that what is gained for the input may be lost there.
        """
        best: tuple[float, Tensor, Tensor] | None = None
        weight, x = self.layer.weight.detach(), self.kept[0]
        gram = _gram(weight, self.layer, len(groups))
        for power in POWERS:
            scale = reach**power
            step = (reach / scale).max() / (2 ** (self.method.bits - 1) - 1)
            found = Grouped(shift[groups], scale[groups], step, self.method.bits)
            change = _scaled_weight(self.layer, found, self.method.bits) - weight
            error = found(x) - x
            loss = (error @ gram * error).sum() + (x @ _gram(change, self.layer, len(groups)) * x).sum()
            if best is None or float(loss) < best[0]:
                best = float(loss), scale, step
        assert best is not None
        return shift, *best[1:]

    def _learn(self, groups: Tensor, shift: Tensor, scale: Tensor, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Those with the least squared error of the layer's output."""
        gram = _gram(self.layer.weight, self.layer, len(groups))
        inputs = [x.clone() for x in self.kept]  # copies can be learned from, also those of inference mode
        # relative to where they begin, so that one rate suits all
        moves, widths = (torch.zeros(len(shift), requires_grad=True) for _ in range(2))
        finer = torch.zeros((), requires_grad=True)
        optimiser = torch.optim.Adam([moves, widths, finer], self.method.rate)
        for k in range(self.method.steps):
            shifts, scales = (shift + moves * scale)[groups], (scale * widths.exp())[groups]
            x = inputs[k % len(inputs)]
            error = Grouped(shifts, scales, step * finer.exp(), self.method.bits)(x) - x
            loss = (error @ gram * error).sum() / len(x)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        return tuple(x.detach() for x in (shift + moves * scale, scale * widths.exp(), step * finer.exp()))  # type: ignore[return-value]


def _gram(weight: Tensor, layer: Layer, channels: int) -> Tensor:
    """(C, C) products of the weights of channels, by which errors of the input become those of the output.

    Of a convolution, errors of different places are taken to be independent; with groups, also those of channels.
    """
    rows = rows_of(weight)
    if _is_grouped(layer):
        return torch.eye(channels) * rows.square().sum() / channels
    parts = rows.view(len(rows), channels, -1).movedim(1, 2).flatten(0, 1)
    return parts.mT @ parts


def _is_grouped(layer: Layer) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.groups > 1


def _scaled_weight(layer: Layer, quantiser: Grouped, bits: int) -> Tensor:
    """The weight, rounded after it was multiplied by the scales of the input, with a step for each row."""
    weight, scale = layer.weight.detach(), torch.ones(())
    if not _is_grouped(layer):
        scale = quantiser.scale.flatten().view(-1, *[1] * (weight.ndim - 2))
    rows, none = rows_of(weight * scale), torch.zeros(())
    step = best_step(rows, rows.abs().amax(1, keepdim=True), bits, lambda s: Symmetric(s, bits, none))
    return Symmetric(step, bits, none)(rows).view_as(weight) / scale


@dataclass(frozen=True)
class PQSAM(Method):
    """Grouped shift and scale of the inputs of layers; attention has the mean range.

    Scales multiply the weights, which are rounded with a step for each row. First layers, which see pixels, stay as
    they are.

    Attributes:
        steps: of learning; none with 0.
        rate: of learning.
    """

    steps: int = 100
    rate: float = 0.01

    def skips(self, layer: Layer) -> bool:
        """See `Method.skips`."""
        return isinstance(layer, nn.Conv2d) and layer.in_channels == 3

    def observer(self, kind: Kind, layer: Layer | None = None) -> Observer:
        """See `Method.observer`."""
        return MeanRange(self.bits) if layer is None else GroupedSearch(layer, self)

    def weight(self, layer: Layer, inputs: list[Tensor], quantiser: Quantiser) -> Tensor:
        """See `Method.weight`."""
        assert isinstance(quantiser, Grouped)
        return _scaled_weight(layer, quantiser, self.bits)
