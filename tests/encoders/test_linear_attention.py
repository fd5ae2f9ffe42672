"""Encoders with linear attention: bfloat16 products, other sizes than the published, use with memory."""

import pytest
import torch

from samvideo import models, registry
from samvideo.encoders.efficientvit import _attend

SMALL = {
    "efficientvit-l0": {"widths": (8, 16, 16, 32, 64)},
    "rwkv-small": {"stem": 8, "widths": (8, 16), "depths": (1, 1), "dim": 32, "depth": 2, "middle": 1},
}


@pytest.mark.parametrize("name", SMALL)
@torch.inference_mode()
def test_bfloat16_is_close(name: str) -> None:
    torch.manual_seed(0)
    encoder = registry.ENCODERS.build(name, **SMALL[name]).eval()
    image = torch.randn(1, 3, 128, 160)
    exact, _ = encoder(image)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, _ = encoder(image)
    assert float((rounded.float() - exact).norm() / exact.norm()) < 0.03


@torch.inference_mode()
def test_sums_over_pixels_stay_float32_under_autocast() -> None:
    qkv = torch.randn(1, 2 * 3 * 32, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        under = _attend(qkv)
    assert under.dtype == torch.float32
    assert torch.equal(under, _attend(qkv))


@torch.inference_mode()
def test_linear_attention_is_the_quadratic_one_without_softmax() -> None:
    torch.manual_seed(0)
    qkv = torch.randn(2, 2 * 3 * 32, 3, 5)
    q, k, v = qkv.double().flatten(2).unflatten(1, (2, 3, 32)).unbind(2)
    weights = q.relu().transpose(-1, -2) @ k.relu()
    expected = v @ (weights / weights.sum(-1, keepdim=True)).transpose(-1, -2)
    assert torch.allclose(_attend(qkv), expected.flatten(1, 2).unflatten(-1, (3, 5)).float(), atol=1e-5)


@pytest.mark.parametrize("name", ["resnet-18", "rwkv-small"])
@torch.inference_mode()
def test_memory_takes_their_maps(name: str) -> None:
    model = models.build(name, memory="perceiver", input_size=256)
    features = model.encode(torch.randn(1, 3, 256, 256))
    assert features.coarse.shape == (1, 256, 16, 16)
    masks = model.decode(features, model.embedding(features)).logits_bnhw
    assert masks.shape == (1, 4, 64, 64)


def test_stages_of_rwkv() -> None:
    encoder = registry.ENCODERS.build("rwkv-small", **SMALL["rwkv-small"])
    with torch.inference_mode():
        maps = encoder.stages(torch.randn(1, 3, 64, 96))
    assert [tuple(x.shape[1:]) for x in maps] == [(8, 16, 24), (16, 8, 12), (32, 4, 6), (32, 4, 6)]
