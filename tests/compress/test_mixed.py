"""Mixed precision and grouped channels, on cases whose answers are known."""

import pytest
import torch
from torch import Tensor, nn

from samvideo.compress.minmax import MinMax
from samvideo.compress.mixed import choose_bits, mean_bits, quantise_mixed
from samvideo.compress.pqsam import PQSAM, GroupedSearch, group_channels
from samvideo.errors import ConfigError

LOSSES = {"a": {8: 0.0, 6: 0.01, 4: 0.5}, "b": {8: 0.0, 6: 0.1, 4: 0.1}, "c": {8: 0.0, 6: 0.3, 4: 0.6}}
SIZES = {"a": 100, "b": 100, "c": 100}


@pytest.mark.parametrize(
    ("budget", "bits"),
    [
        (8, {"a": 8, "b": 8, "c": 8}),
        (7.5, {"a": 6, "b": 8, "c": 8}),
        (6, {"a": 6, "b": 4, "c": 8}),
        (4, {"a": 4, "b": 4, "c": 4}),
    ],
)
def test_layers_that_lose_least_per_bit_come_first(budget: float, bits: dict[str, int]) -> None:
    assert choose_bits(LOSSES, SIZES, budget) == bits


def test_budgets_that_cannot_be_met_are_refused() -> None:
    with pytest.raises(ConfigError, match="4 bits are the fewest"):
        choose_bits(LOSSES, SIZES, 3)


def test_the_layer_whose_output_counts_keeps_its_bits() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"large": nn.Linear(16, 8), "small": nn.Linear(16, 8)})
    x = torch.randn(64, 16)

    @torch.no_grad()
    def run() -> Tensor:
        out: Tensor = model["large"](x) + 1e-3 * model["small"](x)
        return out

    before = run()
    quantised, bits = quantise_mixed(model, MinMax, run, lambda: -float((run() - before).norm()), 6)
    assert bits == {"large": 8, "small": 4}
    sizes = dict.fromkeys(bits, 128)
    assert mean_bits(bits, sizes) == 6
    top = {site.name: site.quantisers["input"].bits for site in quantised.sites}  # type: ignore[attr-defined]
    assert top == bits
    assert 0 < float((run() - before).norm()) < 0.5
    quantised.remove()
    assert torch.equal(run(), before)


def test_similar_channels_share_a_group() -> None:
    low = torch.tensor([-1.0, -20.0, -1.1, -0.9, -21.0])
    high = torch.tensor([1.0, 30.0, 1.0, 1.0, 31.0])
    groups = group_channels(low, high, 2)
    assert groups[0] == groups[2] == groups[3]
    assert groups[1] == groups[4] != groups[0]
    assert len(group_channels(torch.ones(3), torch.ones(3)).unique()) == 1


@pytest.mark.parametrize("steps", [0, 50])
@pytest.mark.parametrize("kind", ["tokens", "maps", "depthwise"])
def test_grouped_channels_lose_less_than_one_range(steps: int, kind: str) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(8, 8) if kind == "tokens" else nn.Conv2d(8, 8, 3, groups=8 if kind == "depthwise" else 1)
    x = torch.randn(256, 8) * torch.tensor([1.0, 1, 1, 1, 1, 1, 1, 50]) + torch.arange(8)
    x = x if kind == "tokens" else x.T.reshape(1, 8, 16, 16)
    with torch.inference_mode():
        search, plain = GroupedSearch(layer, PQSAM(5, steps=steps)), MinMax(5).observer("input")
        search.observe(x.clone())
        plain.observe(x)
    grouped = search.quantiser()
    with torch.no_grad():
        wanted = layer(x)
        alone, one_range = (
            float((layer(quantiser(x)) - wanted).norm()) for quantiser in (grouped, plain.quantiser())
        )
        layer.weight.copy_(PQSAM(5).weight(layer, [], grouped))
        both = float((layer(grouped(x)) - wanted).norm())
    assert alone < 0.8 * one_range
    assert both < 0.3 * float(wanted.norm())
