"""Cutting channels and blocks out of encoders."""

import pytest
import torch
from small_encoders import ENCODERS, encoder
from torch import Tensor

from samvideo.compress.slim import Slim, find_transformer, left_of
from samvideo.encoders.base import ImageEncoder
from samvideo.errors import ConfigError
from samvideo.models import build


@torch.no_grad()
def maps(model: ImageEncoder) -> Tensor:
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    coarse, fine = model(image)
    return torch.cat([one.flatten() for one in (coarse, *fine)])


def same(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).norm() < 1e-4 * b.norm())


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("which", ["attention", "hidden"])
def test_channels_without_effect_can_go(kind: str, which: str) -> None:
    """Weights from the second half of each head's places are zero: without them, the output is the same."""
    model = encoder(kind)
    for channels in getattr(find_transformer(model), which):
        per_head = channels.width // channels.heads
        gone = torch.arange(channels.width) % per_head >= per_head // 2
        with torch.no_grad():
            for part in channels.parts:
                if part.axis == 0:
                    part.layer.weight[gone.repeat(part.stacked)] = 0
                    part.layer.bias[gone.repeat(part.stacked)] = 0
    before, size = maps(model), sum(p.numel() for p in model.parameters())
    for channels in getattr(find_transformer(model), which):
        channels.keep_first(channels.width // 2)
    assert same(maps(model), before)
    assert sum(p.numel() for p in model.parameters()) < size


@pytest.mark.parametrize("kind", ENCODERS)
def test_the_order_of_channels_does_not_matter(kind: str) -> None:
    model = encoder(kind)
    before = maps(model)
    found = find_transformer(model)
    for channels in found.embedding + found.hidden:
        channels.keep(torch.randperm(channels.width))
    assert same(maps(model), before)


@pytest.mark.parametrize("kind", ENCODERS)
def test_what_is_left_can_be_made_again(kind: str) -> None:
    model, again = encoder(kind), encoder(kind)
    find_transformer(model).leave_blocks(kept := sorted(find_transformer(model).fixed | {1}))
    found = find_transformer(model)
    for place, channels in enumerate(found.embedding + found.attention + found.hidden):
        channels.keep_first(channels.width // 2 if place % 2 else channels.width)
    left = left_of(model, kept)
    Slim.model_validate_json(left.model_dump_json()).cut(again)
    again.load_state_dict(model.state_dict())
    assert same(maps(again), maps(model))


def test_wrong_input_is_named() -> None:
    found = find_transformer(encoder("plain"))
    with pytest.raises(ConfigError, match="width 3: a multiple of 2"):
        found.attention[0].keep_first(3)
    with pytest.raises(ConfigError, match=r"blocks \[1\]"):
        found.leave_blocks([1])
    with pytest.raises(ConfigError, match=r"RepVit.* has no transformer blocks"):
        find_transformer(build("repvit-m1").encoder)
