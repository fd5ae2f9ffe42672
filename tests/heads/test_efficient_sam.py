"""EfficientSAM's rules for prompts, and RWKV-SAM's single mask."""

import logging

import pytest
import torch

from samvideo import registry
from samvideo.errors import ConfigError
from samvideo.heads.efficient_sam import EfficientSamPrompts
from samvideo.tensors import PromptTensors


def clicks(count: int) -> PromptTensors:
    return PromptTensors(torch.arange(2.0 * count).view(1, count, 2), torch.ones(1, count, dtype=torch.long))


@torch.inference_mode()
def test_six_points_enter(caplog: pytest.LogCaptureFixture) -> None:
    prompts = EfficientSamPrompts(6, 8)
    two = prompts.points(clicks(2), (64, 64))
    assert two.shape == (1, 6, 8)
    nowhere = PromptTensors(torch.full((1, 1, 2), -1.0), torch.tensor([[-1]]))
    assert torch.equal(two[:, 2:], prompts.points(nowhere, (64, 64))[:, :4])
    assert not torch.equal(two[0, 2], prompts.not_a_point_embed.weight[0])  # the code of its place remains
    with caplog.at_level(logging.WARNING):
        eight = prompts.points(clicks(8), (64, 64))
    assert "the last 2 are left out" in caplog.text
    assert torch.equal(eight, prompts.points(clicks(6), (64, 64)))


@torch.inference_mode()
def test_negative_clicks_are_places_only() -> None:
    prompts = EfficientSamPrompts(6, 8)
    click = clicks(1)
    positive, negative = (
        prompts.points(click._replace(labels=torch.tensor([[label]])), (64, 64))[0, 0] for label in (1, 0)
    )
    assert torch.allclose(positive - negative, prompts.point_embeddings[0].weight[0], atol=1e-6)


@torch.inference_mode()
def test_rwkv_sam_has_one_mask() -> None:
    with pytest.raises(ConfigError, match="fine maps"):
        registry.HEADS.build("rwkv-sam")
    prompts, decoder = registry.HEADS.build("rwkv-sam", fine_widths=(8, 16))
    fine = decoder.project((torch.randn(1, 8, 16, 16), torch.randn(1, 16, 8, 8)))
    found = decoder(torch.randn(2, 256, 4, 4), prompts.grid_code((4, 4)), torch.randn(2, 3, 256), fine)
    assert found.logits_bnhw.shape == (2, 1, 16, 16)
    assert found.quality_bn.shape == (2, 1)
    assert found.tokens_bnc.shape == (2, 1, 256)
