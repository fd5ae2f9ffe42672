"""Fake quantisation of whole models."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from tiny_sam import picture, tiny_model
from torch import Tensor, nn

from samvideo.compress.fake import FakeQuantised, Method, quantise, sensitivity
from samvideo.compress.minmax import MinMax
from samvideo.compress.ptq4sam import PTQ4SAM
from samvideo.compress.w8a8 import W8A8
from samvideo.encoders.sam_vit import SamVit, SamVitConfig
from samvideo.errors import ConfigError
from samvideo.models import VideoModel
from samvideo.tensors import PromptTensors

METHODS = [MinMax, W8A8, partial(PTQ4SAM, steps=2)]


def masks(model: VideoModel, index: int) -> Tensor:
    """Logits of a click."""
    with torch.no_grad():
        features = model.encode(model.preprocess(picture(index)))
        points = PromptTensors(torch.full((1, 1, 2), 30.0), torch.ones(1, 1, dtype=torch.long))
        return model.decode(features, model.embedding(features), points).logits_bnhw


def calibrated(model: VideoModel, method: Method) -> FakeQuantised:
    return quantise(model, method, lambda: masks(model, 0))


def error(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("method", METHODS)
def test_more_bits_are_nearer_and_removal_restores(method: Callable[[int], Method]) -> None:
    trunk = tiny_model().encoder.trunk
    images = torch.randn(3, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def run(index: int) -> Tensor:
        out: Tensor = trunk(images[index])
        return out

    before = run(2)
    errors = []
    for bits in (8, 4):
        quantised = quantise(trunk, method(bits), lambda: [run(i) for i in range(2)])
        errors.append(error(run(2), before))
        quantised.remove()
        assert torch.equal(run(2), before)
    assert 0 < errors[0] < 0.08
    assert 2 * errors[0] < errors[1]


def test_layers_and_attention_are_found() -> None:
    model = tiny_model()
    sites = {site.name: set(site.quantisers) for site in calibrated(model, MinMax()).sites}
    assert sites["encoder.trunk.blocks.0.attn"] == {"query", "key", "value", "softmax"}
    assert sites["decoder.transformer.final_attn_token_to_image.product"] == {"query", "key", "value", "softmax"}
    assert sites["encoder.trunk.blocks.1.mlp.layers.0"] == {"input"}
    assert not any(name.startswith("memory.encoder") for name in sites), "not reached by clicks"


def test_all_bits_change_nothing_with_relative_positions() -> None:
    """Attention that is taken apart, with masks, for 576 keys in parts, computes what it did."""
    torch.manual_seed(0)
    model = SamVit(SamVitConfig(24, 2, 2, (1,), 48, window=4)).eval()
    for table in (p for name, p in model.named_parameters() if "rel_pos" in name):
        nn.init.normal_(table, std=0.2)
    image = torch.randn(1, 3, 384, 384)
    with torch.no_grad():
        before = model(image)[0]
        quantise(model, MinMax(16), lambda: model(image))
        assert 0 < error(model(image)[0], before) < 1e-3


def test_sensitivity_names_the_group_that_costs_most() -> None:
    model = tiny_model()
    before = masks(model, 7)
    quantised = calibrated(model, MinMax(4))
    table = sensitivity(quantised, lambda: -error(masks(model, 7), before), lambda name: name.split(".")[0])
    assert {group for group, _ in table} == {"encoder", "memory", "decoder"}
    assert table[0][1] >= table[1][1] >= table[2][1] >= 0
    assert error(masks(model, 7), before) > 0, "all are quantised again"


def test_bimodal_keys_are_folded_without_a_change() -> None:
    model = tiny_model()
    attention = model.decoder.transformer.final_attn_token_to_image
    with torch.no_grad():
        attention.k_proj.weight.mul_(0.1)
        attention.k_proj.bias.copy_(torch.where(torch.arange(128) % 3 == 0, -3.0, 3.0))
    before, own = masks(model, 7), attention.k_proj.weight.clone()
    with torch.no_grad():
        PTQ4SAM().prepare(model, lambda: masks(model, 0))
    assert (attention.k_proj.bias > 0).all()
    assert not torch.equal(attention.k_proj.weight, own)
    torch.testing.assert_close(masks(model, 7), before, atol=1e-4, rtol=1e-4)


def test_learned_rounding_is_nearer_than_nearest() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(32, 16)
    inputs = [torch.randn(64, 4) @ torch.randn(4, 32) for _ in range(2)]
    with torch.no_grad():
        wanted = layer(inputs[0])
    errors = []
    for steps in (0, 200):
        weight = PTQ4SAM(3, steps=steps).weight(layer, inputs, lambda x: x)
        errors.append(error(inputs[0] @ weight.T + layer.bias.detach(), wanted))
    assert errors[1] < 0.9 * errors[0]


def test_wrong_input_is_named() -> None:
    with pytest.raises(ConfigError, match="1 bits"):
        MinMax(1)
    with pytest.raises(ConfigError, match="no layer"):
        quantise(nn.LayerNorm(4), MinMax(), lambda: None)
