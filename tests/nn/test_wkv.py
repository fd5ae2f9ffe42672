"""Two-sided WKV: equal to its closed formula, for keys of any size."""

import pytest
import torch
from torch import Tensor

from samvideo.nn.wkv import two_sided_wkv


def closed(k: Tensor, v: Tensor, decay: Tensor, bonus: Tensor) -> Tensor:
    """All pairs of tokens, in double precision."""
    at = torch.arange(k.shape[1] * k.shape[2])
    distance = (at[:, None] - at).abs()[..., None]
    flat = k.double().flatten(1, 2)[:, None]
    logits = torch.where(distance == 0, flat + bonus, flat - decay.double() * (distance - 1))
    return torch.einsum("btic,bic->btc", logits.softmax(2), v.double().flatten(1, 2)).view(k.shape)


@pytest.mark.parametrize("size", [(5, 7), (1, 6), (6, 1), (1, 1)])
@pytest.mark.parametrize("spread", [1, 300])
@torch.inference_mode()
def test_closed_formula(size: tuple[int, int], spread: float) -> None:
    torch.manual_seed(0)
    k, v = spread * torch.randn(2, *size, 6), torch.randn(2, *size, 6)
    decay, bonus = 2 * torch.randn(2, 6)
    assert torch.allclose(two_sided_wkv(k, v, decay, bonus), closed(k, v, decay, bonus).float(), atol=2e-5)


def test_gradients() -> None:
    torch.manual_seed(0)
    k, v = torch.randn(2, 1, 3, 4, 2).unbind(0)
    grads = []
    for function in (two_sided_wkv, closed):
        key = k.clone().requires_grad_()
        function(key, v, torch.ones(2), torch.ones(2)).square().sum().backward()
        grads.append(key.grad)
    assert grads[0] is not None
    assert torch.allclose(*grads, atol=1e-5)
