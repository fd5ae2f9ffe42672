"""The windows of Hiera, against straightforward reckonings."""

import pytest
import torch
import torch.nn.functional as F

from samvideo.encoders.hiera import HieraConfig, MaskUnitAttention, WindowAttention, _Block, _Trunk


@pytest.mark.parametrize(("pool", "windows"), [(1, 1), (4, 1), (1, 6), (4, 6)])
@torch.inference_mode()
def test_same_numbers_as_hiera_transformer(pool: int, windows: int) -> None:
    torch.manual_seed(1)
    ours = WindowAttention(8, 16, 2, pool, 4, use_mask_unit_attn=windows > 1)
    x = torch.randn(2, 4 * pool * windows, 8)
    assert torch.allclose(ours(x), MaskUnitAttention.forward(ours, x), atol=1e-6)


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("size", [(8, 12), (7, 10)])
@torch.inference_mode()
def test_block_by_single_windows(pool: bool, size: tuple[int, int]) -> None:
    """A block equals attention done window by window with loops, zero padding included."""
    torch.manual_seed(2)
    height, width = size if not pool else (8, 12)
    block = _Block(8, 16 if pool else 8, 2, 4, pool)
    x = torch.randn(1, height, width, 8)
    normed = block.norm1(x)
    padded = F.pad(normed, (0, 0, 0, -width % 4, 0, -height % 4))
    step = 2 if pool else 1
    expected = torch.zeros(1, padded.shape[1] // step, padded.shape[2] // step, 16 if pool else 8)
    for top in range(0, padded.shape[1], 4):
        for left in range(0, padded.shape[2], 4):
            window = padded[0, top : top + 4, left : left + 4]
            q, k, v = block.attn.qkv(window).unflatten(-1, (3, 2, -1)).unbind(2)  # (4, 4, heads, c)
            if pool:
                q = F.max_pool2d(q.permute(2, 3, 0, 1), 2).permute(2, 3, 0, 1)
            rows, columns = q.shape[:2]
            q, k, v = (t.flatten(0, 1).transpose(0, 1) for t in (q, k, v))
            mixed = F.scaled_dot_product_attention(q, k, v).transpose(0, 1).flatten(1)
            tile = block.attn.proj(mixed).view(rows, columns, -1)
            expected[0, top // step : top // step + rows, left // step : left // step + columns] = tile
    shortcut = block.proj(normed) if pool else x
    if pool:
        shortcut = F.max_pool2d(shortcut.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    x_mid = shortcut + expected[:, : height // step, : width // step]
    assert torch.allclose(block(x), x_mid + block.mlp(block.norm2(x_mid)), atol=1e-5)


def test_pooling_blocks_keep_the_window_of_the_stage_before() -> None:
    trunk = _Trunk(HieraConfig(8, 1, (1, 2, 3, 2), (4,), windows=(8, 4, 14, 7)))
    assert [block.window for block in trunk.blocks] == [8, 8, 4, 4, 0, 14, 14, 7]
    assert [block.pool for block in trunk.blocks] == [1, 2, 1, 2, 1, 1, 2, 1]
    assert [block.attn.heads for block in trunk.blocks] == [1, 2, 2, 4, 4, 4, 8, 8]
