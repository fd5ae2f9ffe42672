"""Mixed precision: bits for each layer by what they cost, under a budget of bits per weight."""

from collections.abc import Callable, Mapping

from torch import nn

from samvideo.compress.fake import FakeQuantised, Method, Site, attach, quantise
from samvideo.errors import ConfigError

CHOICES = (4, 6, 8)
"""Bits that a layer may have."""


def choose_bits(
    losses: Mapping[str, Mapping[int, float]], sizes: Mapping[str, int], budget: float
) -> dict[str, int]:
    """Bits of each layer: all begin with the most, then the layer that loses least per saved bit gets fewer.

    Losses are taken to add up. A step that leads to a gain, as noise may, counts as free.

    Args:
        losses: of each layer, of a score by its bits, when it alone is quantised.
        sizes: of each layer, in weights.
        budget: largest mean of bits per weight.

    Raises:
        ConfigError: the fewest bits exceed the budget.
    """
    bits = {name: max(row) for name, row in losses.items()}
    total = sum(sizes[name] for name in losses)
    while sum(sizes[name] * bits[name] for name in bits) > budget * total:
        steps = [
            (max(0.0, loss - row[bits[name]]) / (sizes[name] * (bits[name] - fewer)), -sizes[name], name, fewer)
            for name, row in losses.items()
            for fewer, loss in row.items()
            if fewer < bits[name]
        ]
        if not steps:
            fewest = min(min(row) for row in losses.values())
            raise ConfigError(f"a budget of {budget:g} bits per weight cannot be met: {fewest} bits are the fewest")
        *_, name, fewer = min(steps)
        bits[name] = fewer
    return bits


def mean_bits(bits: Mapping[str, int], sizes: Mapping[str, int]) -> float:
    """Bits per weight."""
    return sum(sizes[name] * bits[name] for name in bits) / sum(sizes[name] for name in bits)


def quantise_mixed(
    model: nn.Module,
    method: Callable[[int], Method],
    run: Callable[[], object],
    score: Callable[[], float],
    budget: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[FakeQuantised, dict[str, int]]:
    """Fake-quantise a model in place, as `samvideo.compress.fake.quantise`, with bits by layer.

    Weights and input of a layer have its bits; attention, which has no weights, has the most.

    Args:
        model: any module.
        method: from bits to a method.
        run: runs the model on the calibration data.
        score: of the model as it is then, such as mask IoU; higher is better. Computed three times per layer.
        budget: largest mean of bits per weight, over the quantised layers.
        progress: called with how many scores are computed, of how many.

    Returns:
        What is quantised, and the bits of each layer.
    """
    most = max(CHOICES)
    if budget < min(CHOICES):
        raise ConfigError(f"a budget of {budget:g} bits per weight: {min(CHOICES)} to {most} expected")
    whole = score()
    sites: dict[int, dict[str, Site]] = {}
    losses: dict[str, dict[int, float]] = {}
    left: list[str] = []
    for k, bits in enumerate(CHOICES):
        quantised = quantise(model, method(bits), run)
        sites[bits], left = {site.name: site for site in quantised.sites}, quantised.left
        layers = [site.name for site in quantised.sites if site.layer is not None]
        for i, name in enumerate(layers):
            with quantised.only(name):
                losses.setdefault(name, {})[bits] = whole - score()
            progress(k * len(layers) + i + 1, len(CHOICES) * len(layers))
        quantised.remove()
    sizes = {name: site.layer.weight.numel() for name, site in sites[most].items() if site.layer is not None}
    chosen = choose_bits(losses, sizes, budget)
    mixed = [sites[chosen.get(name, most)][name] for name in sites[most]]
    for site in mixed:
        site.enabled = True
    return attach(model, mixed, left), chosen
