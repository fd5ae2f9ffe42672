"""Windows at the border of a map equal windows that are filled with zeros, as published."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from samvideo.nn import attention
from samvideo.nn.windows import RelativeAttention, WindowAttention, _codes


def filled(layer: WindowAttention, x: Tensor, window: int) -> Tensor:
    """Attention in windows of real zeros, one window at a time."""
    height, width = x.shape[1:3]
    x = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
    out = torch.empty_like(x)
    for top in range(0, x.shape[1], window):
        for left in range(0, x.shape[2], window):
            part = x[:, top : top + window, left : left + window]
            qkv = layer.qkv(part.flatten(1, 2)).unflatten(2, (3, layer.heads, -1)).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(*qkv).transpose(1, 2).flatten(2)
            out[:, top : top + window, left : left + window] = layer.proj(mixed).view(part.shape)
    return out[:, :height, :width]


def relative(layer: RelativeAttention, x: Tensor, window: int) -> Tensor:
    """Attention with relative positions by its definition, one window and one pair of tokens at a time."""
    height, width = x.shape[1:3]
    x = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
    out = torch.empty_like(x)
    places = list(product(range(window), repeat=2))
    for top, left in product(range(0, x.shape[1], window), range(0, x.shape[2], window)):
        part = x[:, top : top + window, left : left + window]
        q, k, v = layer.qkv(part.flatten(1, 2)).unflatten(2, (3, layer.heads, -1)).permute(2, 0, 3, 1, 4)
        logits = q @ k.mT * q.shape[-1] ** -0.5
        for (i, (y, x_)), (j, (ky, kx)) in product(enumerate(places), repeat=2):
            code = layer.rel_pos_h[y - ky + window - 1] + layer.rel_pos_w[x_ - kx + window - 1]
            logits[..., i, j] += q[..., i, :] @ code
        mixed = (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)
        out[:, top : top + window, left : left + window] = layer.proj(mixed).view(part.shape)
    return out[:, :height, :width]


@pytest.mark.parametrize("size", [(14, 14), (32, 20), (6, 30), (3, 5)])
@torch.inference_mode()
def test_fillers_count_as_one_token(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = WindowAttention(24, 3)
    x = torch.randn(2, *size, 24)
    torch.testing.assert_close(layer(x, 14), filled(layer, x, 14), atol=1e-5, rtol=1e-4)


def relative_layer(side: int) -> RelativeAttention:
    torch.manual_seed(0)
    layer = RelativeAttention(24, 3, side)
    torch.nn.init.normal_(layer.rel_pos_h)
    torch.nn.init.normal_(layer.rel_pos_w)
    return layer


@pytest.fixture(params=[0, 512])
def many_keys(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small grids, taken for large ones or not."""
    monkeypatch.setattr(attention, "MANY_KEYS", request.param)


@pytest.mark.usefixtures("many_keys")
@pytest.mark.parametrize("size", [(4, 4), (6, 9), (3, 2)])
@pytest.mark.parametrize("training", [False, True])
def test_relative_positions(size: tuple[int, int], training: bool) -> None:
    layer = relative_layer(4)
    x = torch.randn(2, *size, 24)
    with torch.set_grad_enabled(training):
        torch.testing.assert_close(layer(x, 4), relative(layer, x, 4), atol=1e-5, rtol=1e-4)


@pytest.mark.usefixtures("many_keys")
@torch.inference_mode()
def test_masks_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = relative_layer(5)
    x = torch.randn(2, 5, 5, 24)
    expected = relative(layer, x, 5)
    for size in (4 * 25 * 7, 4 * 25 * 25 * 4):
        monkeypatch.setattr(attention, "MASK_BYTES", size)
        torch.testing.assert_close(layer(x, 0), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.usefixtures("many_keys")
@torch.inference_mode()
def test_half_precision() -> None:
    layer = relative_layer(4)
    x = torch.randn(2, 6, 9, 24)
    expected = layer(x, 4)
    assert (layer.bfloat16()(x.bfloat16(), 4) - expected).norm() < 0.03 * expected.norm()


def test_tables_of_another_length() -> None:
    """Linear interpolation with aligned borders: halving a straight line keeps it straight."""
    table = torch.arange(15.0)[:, None]
    codes = _codes(table, 4, 4)[..., 0]
    line = F.interpolate(table.T[None], size=7, mode="linear")[0, 0]
    for y, x in product(range(4), repeat=2):
        assert codes[y, x] == line[y - x + 3]
