"""What every segmenter promises (samvideo.segmenters.base.Segmenter)."""

from collections.abc import Callable

import numpy as np
import pytest
from tiny_sam import tiny_model

from samvideo.nano.runtime import load
from samvideo.object_prompts import ObjectPrompt, group_prompts
from samvideo.segmenters.base import Segmenter
from samvideo.segmenters.grabcut import GrabCutSegmenter
from samvideo.segmenters.image_model import ImageModelSegmenter
from samvideo.segmenters.nano import NanoSegmenter
from samvideo.types import Box, Points, Prompt
from tests.scenes import RED, SIZE, Shape, overlap, scene

TRAINED: dict[str, Callable[[], Segmenter]] = {"grabcut": GrabCutSegmenter, "nano": lambda: NanoSegmenter(load())}
MAKERS = TRAINED | {"sam": lambda: ImageModelSegmenter(tiny_model())}
FRAMES, TRUTH = scene(2, Shape(lambda index: (60 + 3.0 * index, 55), 20, RED))
DISC = TRUTH[0, 0]
BOX = Box((40, 35, 80, 75), object_id=1)
CLICKS = Points([(60, 55), (20, 100)], [1, 0], object_id=1)


def prompt(*prompts: Prompt) -> ObjectPrompt:
    (grouped,) = group_prompts(prompts, (), SIZE)
    return grouped


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("prompts", [(BOX,), (CLICKS,), (BOX, CLICKS)])
def test_candidates_have_the_size_of_the_image(name: str, prompts: tuple[Prompt, ...]) -> None:
    segmenter = MAKERS[name]()
    embedding = segmenter.embed(FRAMES[0].rgb)
    first = segmenter.segment(embedding, prompt(*prompts))
    assert first.masks_nhw.shape == (len(first.quality_n), *SIZE[::-1])
    assert first.masks_nhw.dtype == bool
    assert first.best.shape == SIZE[::-1]
    assert ((first.quality_n >= 0) & (first.quality_n <= 1)).all()
    again = segmenter.segment(embedding, prompt(*prompts))
    assert np.array_equal(first.masks_nhw, again.masks_nhw), "an embedding serves any number of prompts"


@pytest.mark.parametrize("name", MAKERS)
def test_a_previous_mask_is_corrected(name: str) -> None:
    segmenter = MAKERS[name]()
    embedding = segmenter.embed(FRAMES[0].rgb)
    half = DISC.copy()
    half[:, :60] = False
    fresh, corrected = (segmenter.segment(embedding, prompt(CLICKS), before).best for before in (None, half))
    assert corrected.shape == fresh.shape
    if name in TRAINED:
        assert overlap(corrected, DISC) > overlap(half, DISC)
    else:
        assert not np.array_equal(corrected, fresh)


@pytest.mark.parametrize("name", MAKERS)
def test_the_upcoming_frame_matters_only_to_those_that_look_ahead(name: str) -> None:
    segmenter = MAKERS[name]()
    assert segmenter.lookahead in (0, 1)
    alone, ahead = (segmenter.embed(FRAMES[0].rgb, upcoming) for upcoming in (None, FRAMES[1].rgb))
    masks = [segmenter.segment(embedding, prompt(BOX)).best for embedding in (alone, ahead)]
    assert segmenter.lookahead or np.array_equal(*masks)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("prompts", [(BOX,), (CLICKS,)])
def test_masks_of_trained_segmenters_fit(name: str, prompts: tuple[Prompt, ...]) -> None:
    segmenter = TRAINED[name]()
    assert (
        overlap(segmenter.segment(segmenter.embed(FRAMES[0].rgb, FRAMES[1].rgb), prompt(*prompts)).best, DISC) > 0.7
    )


def test_an_ambiguous_click_gives_three_candidates() -> None:
    segmenter = ImageModelSegmenter(tiny_model())
    embedding = segmenter.embed(FRAMES[0].rgb)
    assert len(segmenter.segment(embedding, prompt(Points([(60, 55)], object_id=1))).masks_nhw) == 3
    assert len(segmenter.segment(embedding, prompt(BOX)).masks_nhw) == 1
