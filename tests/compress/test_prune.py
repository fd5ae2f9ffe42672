"""Pruning and distillation of small encoders."""

import pytest
import torch
from small_encoders import ENCODERS, encoder, smooth_images

from samvideo.compress.distil import Training, feature_error, maps_of
from samvideo.compress.prune import Pruning, prune
from samvideo.compress.slim import left_of
from samvideo.encoders.base import ImageEncoder


@torch.no_grad()
def error(student: ImageEncoder, teacher: ImageEncoder) -> float:
    new = torch.cat(smooth_images(12)[8:])
    return float(feature_error(maps_of(student, new), maps_of(teacher, new)))


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("uneven", [False, True])
def test_pruning_halves_widths(kind: str, uneven: bool) -> None:
    teacher = encoder(kind)
    before = left_of(teacher)
    *_, last = prune(teacher, smooth_images(4), Pruning(0.5, uneven), Training(0))
    after = left_of(last.encoder)
    assert after.embedding == [width // 2 for width in before.embedding]
    assert sum(after.hidden) < 0.6 * sum(before.hidden)
    assert uneven or after.attention == [width // 2 for width in before.attention]
    assert left_of(teacher) == before


def test_distillation_halves_the_error() -> None:
    teacher, errors = encoder("sam"), []
    for steps in (0, 50):
        *_, last = prune(teacher, smooth_images(8), Pruning(0.5), Training(steps, rate=3e-3))
        errors.append(error(last.encoder, teacher))
    assert errors[1] < 0.5 * errors[0]
