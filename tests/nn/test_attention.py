"""Attention as plain products of blocks is attention."""

import pytest
import torch
import torch.nn.functional as F

from samvideo.nn import attention
from samvideo.nn.attention import attend


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("amx", "keys"), [(True, 600), (False, 600), (False, 100)])
def test_attend(
    dtype: torch.dtype, within: float, biased: bool, amx: bool, keys: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several blocks, the last one smaller; objects share the queries; values are narrower; any kind of CPU."""
    monkeypatch.setattr(attention, "SCORE_BYTES", 7 * keys * 4)
    monkeypatch.setattr(attention, "has_amx", lambda: amx)
    q, k, v = torch.randn(1, 2, 30, 16), torch.randn(3, 2, keys, 16), torch.randn(3, 2, keys, 4)
    bias = torch.randn(1, 1, 1, keys) if biased else None
    expected = F.scaled_dot_product_attention(
        q.expand(3, -1, -1, -1), k, v, attn_mask=None if bias is None else bias.expand(-1, -1, 30, -1)
    )
    with torch.inference_mode():
        got = attend(q.to(dtype), k.to(dtype), v.to(dtype), None if bias is None else bias.to(dtype))
    assert got.dtype == dtype
    assert (got.float() - expected).norm() < within * expected.norm()


def test_gradients_go_the_other_way_and_agree() -> None:
    q, k, v = torch.randn(1, 1, 5, 8), torch.randn(2, 1, 600, 8), torch.randn(2, 1, 600, 3, requires_grad=True)
    with_gradients = attend(q, k, v)
    with_gradients.sum().backward()
    assert v.grad is not None
    with torch.no_grad():
        assert torch.allclose(attend(q, k, v), with_gradients, atol=1e-5)
