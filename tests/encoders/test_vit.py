"""The plain ViT's windows at the border: equal to filling them with zeros, as published."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from samvideo.encoders.vit import VitConfig, _Attention


def filled(layer: _Attention, x: Tensor, window: int) -> Tensor:
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


@pytest.mark.parametrize("size", [(14, 14), (32, 20), (6, 30), (3, 5)])
@torch.inference_mode()
def test_fillers_count_as_one_token(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    config = VitConfig(24, 3)
    layer = _Attention(config.dim, config.heads)
    x = torch.randn(2, *size, config.dim)
    torch.testing.assert_close(layer(x, config.window), filled(layer, x, config.window), atol=1e-5, rtol=1e-4)
