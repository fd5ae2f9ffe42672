"""PTQ4SAM's quantisers against the published code's own numbers."""

import numpy as np
import pytest
import torch
from method_fixtures import close, gauss, stored_numbers
from torch import Tensor

from samvideo.compress.affine import Affine, MeanRange, mean_error, search_range, search_weight
from samvideo.compress.ptq4sam import (
    TAUS,
    LogSoftmax,
    SoftmaxSearch,
    alpha_of,
    bimodal_sign,
    hard_weight,
    soft_weight,
)

FIXTURE = stored_numbers("ptq4sam--quantisers")
TAG = "ptq4sam-shared"


def stored(name: str) -> Tensor:
    return torch.from_numpy(FIXTURE[name])


def normal(name: str, *shape: int) -> Tensor:
    return gauss(f"{TAG}/{name}", *shape)


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_activations(bits: int) -> None:
    ranges = MeanRange(bits)
    for i in range(3):
        ranges.observe(normal(f"act{i}", 2, 24, 32) * (1 + i) + 0.3)
    quantiser = ranges.quantiser()
    close(quantiser.scale[None], stored(f"act/{bits}/scale"))
    assert quantiser.zero == stored(f"act/{bits}/zero")
    close(quantiser(normal("probe", 2, 24, 32) * 2), stored(f"act/{bits}/out"))


@pytest.mark.parametrize("bits", [4, 6])
@pytest.mark.parametrize("name", ["weight", "weight+"])
def test_weights(name: str, bits: int) -> None:
    if name == "weight":
        weight = normal("weight", 12, 40) * torch.linspace(0.2, 2, 12)[:, None]
    else:
        weight = normal("weight+", 6, 40).abs()
    quantiser = search_weight(weight, bits)
    at = f"{name}/{bits}"
    close(quantiser.scale[:, 0], stored(f"{at}/scale"))
    assert torch.equal(quantiser.zero[:, 0].int(), stored(f"{at}/zero"))
    close(quantiser(weight), stored(f"{at}/nearest"))
    alpha = alpha_of(weight, quantiser)
    close(alpha, stored(f"{at}/alpha"), 1e-4)  # of the logarithm of a difference
    close(soft_weight(weight, quantiser, alpha), stored(f"{at}/soft"))
    moved = alpha + normal("alpha" + name.removeprefix("weight"), *weight.shape)
    close(soft_weight(weight, quantiser, moved), stored(f"{at}/soft_moved"))
    close(hard_weight(weight, quantiser, moved), stored(f"{at}/hard"))


def keys(name: str, batch: int) -> Tensor:
    mean = {"bimodal": 2.0, "unimodal": 0.0, "weak": 0.7}[name]
    sign = torch.where(torch.arange(32) % 3 == 0, -1.0, 1.0)
    return normal(f"keys{batch}", 2, 64, 32) * 0.6 + mean * sign


@pytest.mark.parametrize("name", ["bimodal", "unimodal", "weak"])
def test_keys(name: str) -> None:
    sign = bimodal_sign(keys(name, 0)[:1])
    assert (sign is not None) == bool(stored(f"keys/{name}/is_bimodal"))
    if sign is not None:
        assert torch.equal(sign, stored(f"keys/{name}/sign"))
    batches = [keys(name, i) for i in range(2)]
    ranges = MeanRange(6, lambda x: search_range(x, 6))
    for x in batches:
        ranges.observe(x)
    published = Affine(stored(f"keys/{name}/scale"), stored(f"keys/{name}/zero"), 6)
    close(published(batches[0]), stored(f"keys/{name}/out"))
    ours, theirs = (sum(mean_error(q(x), x) for x in batches) for q in (ranges.quantiser(), published))
    assert ours == pytest.approx(theirs, rel=0.01)


@pytest.mark.parametrize("bits", [4, 6])
@pytest.mark.parametrize("name", ["flat", "sharp", "peak"])
def test_softmax(name: str, bits: int) -> None:
    at = f"softmax/{name}/{bits}"
    gain = {"flat": 0.5, "sharp": 4.0, "peak": 12.0}[name]
    batches = [(normal(f"logits{i}", 2, 4, 16, 48) * gain).softmax(-1) for i in range(2)]
    search = SoftmaxSearch(bits)
    for i, x in enumerate(batches):
        search.observe(x, normal(f"values{i}", 2, 4, 48, 8))
    found = search.quantiser()
    assert found.tau == stored(f"{at}/tau")
    errors = np.sum(search.errors, 0)
    # the error has many local minima: with sums in another order, the search ends in another one
    assert errors == pytest.approx(FIXTURE[f"{at}/tau_errors"], rel=0.04)
    scale = float(FIXTURE[f"{at}/tau_scales"][TAUS.index(found.tau)])
    close(LogSoftmax(scale, found.tau, bits)(batches[0]), stored(f"{at}/out"))
