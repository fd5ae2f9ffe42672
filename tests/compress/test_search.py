"""Searching encoders under a budget of time."""

import pytest
import torch
from small_encoders import ENCODERS, encoder, smooth_images

from samvideo.compress import search as module
from samvideo.compress.distil import feature_error, maps_of
from samvideo.compress.latency import Latency, measure_latency
from samvideo.compress.search import Candidate, Evolution, Search, part_of, reorder, search_encoder
from samvideo.compress.slim import find_transformer
from samvideo.encoders.base import ImageEncoder
from samvideo.errors import ConfigError

WIDTHS = (1, 2, 3, 4)
LATENCY = Latency(2.0, [1.0] * 6, [{width: float(width) for width in WIDTHS}] * 6)
WORTH = (1, 9, 2, 8, 0, 7)
CHOICES = [[*([None] if i else []), *WIDTHS] for i in range(6)]


def cost(candidate: Candidate) -> float:
    """What is missing, weighed by block."""
    return float(sum(worth * (4 - (width or -1)) for worth, width in zip(WORTH, candidate, strict=True)))


def test_the_best_candidate_is_found_within_the_budget() -> None:
    """Of 17 ms beside the rest, the first block, which stays, takes 2; the three of most worth take 5 each."""
    found = [Evolution(CHOICES, LATENCY, cost, Search(seed=1)).best(2 + 17) for _ in range(2)]
    assert found[0] == found[1] == (1, 4, None, 4, None, 4)
    assert LATENCY.of(found[0]) == 19


def test_too_small_a_budget_is_named() -> None:
    with pytest.raises(ConfigError, match=r"a budget of 3\.9 ms: the smallest .* takes 4\.0 ms"):
        Evolution(CHOICES, LATENCY, cost, Search()).best(3.9)


def weights(module: torch.nn.Module) -> float:
    return float(sum(p.numel() for p in module.parameters()))


def of_blocks(whole: ImageEncoder) -> float:
    return sum(map(weights, find_transformer(whole).blocks))


def by_weights(whole: ImageEncoder, _: torch.Tensor, widths: list[list[int]]) -> Latency:
    blocks = find_transformer(whole).blocks
    dims = [block.mlp.layers[1].out_features for block in blocks]
    mlp = [{w: float(w * (2 * dim + 1) + dim) for w in of} for of, dim in zip(widths, dims, strict=True)]
    attention = [weights(block) - weights(block.mlp) for block in blocks]
    return Latency(0.0, attention, mlp)


@pytest.mark.parametrize("kind", ENCODERS)
def test_the_result_is_the_part_that_was_measured(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time is counted in weights here, which no other process disturbs."""
    whole, images = encoder(kind), smooth_images(3)
    monkeypatch.setattr(module, "encoder_ms", lambda encoders, *_: [of_blocks(one) for one in encoders])
    monkeypatch.setattr(module, "measure_latency", by_weights)
    with torch.no_grad():
        before = maps_of(whole, images[0])
        search = Search(population=4, generations=2, tries=20)
        found = search_encoder(whole, images, budget_share=0.7, search=search)
        assert float(feature_error(maps_of(whole, images[0]), before)) < 1e-8
    assert found.ms == of_blocks(part_of(whole, found.candidate)) <= 0.7 * of_blocks(whole)
    assert found.error < 1.5


def test_important_units_come_first() -> None:
    whole, images = encoder("plain"), smooth_images(4)

    def error(cut: int) -> float:
        part = part_of(whole, (cut, cut))
        with torch.no_grad():
            return float(feature_error(maps_of(part, images[0]), maps_of(whole, images[0])))

    plain = error(64)
    reorder(whole, images)
    assert error(64) < 0.9 * plain


def test_parts_are_measured() -> None:
    latency = measure_latency(encoder("plain"), smooth_images(1)[0], [[32, 128]] * 2, rounds=2)
    assert latency.of((128, 128)) > latency.of((32, None)) > latency.rest >= 0
