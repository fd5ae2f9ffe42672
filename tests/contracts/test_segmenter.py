"""What every segmenter promises (samvideo.segmenters.base.Segmenter)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tiny_sam import tiny_model

from samvideo.errors import ConfigError, PromptError
from samvideo.segmenters.base import EmbeddedImage, Segmentation, Segmenter
from samvideo.segmenters.factory import load_segmenter
from samvideo.segmenters.grabcut import GrabCutSegmenter
from samvideo.segmenters.image_model import ImageModelSegmenter
from samvideo.types import BoolArray, Box, Mask, Points, Prompt
from tests.scenes import RED, SIZE, Shape, overlap, scene

TRAINED: dict[str, Callable[[], Segmenter]] = {"grabcut": GrabCutSegmenter, "nano": load_segmenter}
MAKERS = TRAINED | {"sam": lambda: ImageModelSegmenter(tiny_model())}
FRAMES, TRUTH = scene(2, Shape(lambda index: (60 + 3.0 * index, 55), 20, RED))
DISC = TRUTH[0, 0]
BOX = Box((40, 35, 80, 75), object_id=1)
CLICKS = Points([(60, 55), (20, 100)], [1, 0], object_id=1)


def segment(image: EmbeddedImage, *prompts: Prompt, previous: BoolArray | None = None) -> Segmentation:
    (found,) = image.segment(prompts, previous={} if previous is None else {1: previous})
    return found


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("prompts", [(BOX,), (CLICKS,), (BOX, CLICKS)])
def test_candidates_have_the_size_of_the_image(name: str, prompts: tuple[Prompt, ...]) -> None:
    segmenter = MAKERS[name]()
    embedding = segmenter.embed(FRAMES[0].rgb)
    first = segment(embedding, *prompts)
    assert first.masks_nhw.shape == (len(first.quality_n), *SIZE[::-1])
    assert first.masks_nhw.dtype == bool
    assert first.best.shape == SIZE[::-1]
    assert ((first.quality_n >= 0) & (first.quality_n <= 1)).all()
    again = segment(embedding, *prompts)
    assert np.array_equal(first.masks_nhw, again.masks_nhw), "an embedding serves any number of prompts"


@pytest.mark.parametrize("name", MAKERS)
def test_a_previous_mask_is_corrected(name: str) -> None:
    segmenter = MAKERS[name]()
    embedding = segmenter.embed(FRAMES[0].rgb)
    half = DISC.copy()
    half[:, :60] = False
    fresh, corrected = (segment(embedding, CLICKS, previous=before).best for before in (None, half))
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
    masks = [segment(embedding, BOX).best for embedding in (alone, ahead)]
    assert segmenter.lookahead or np.array_equal(*masks)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("prompts", [(BOX,), (CLICKS,)])
def test_masks_of_trained_segmenters_fit(name: str, prompts: tuple[Prompt, ...]) -> None:
    segmenter = TRAINED[name]()
    assert overlap(segment(segmenter.embed(FRAMES[0].rgb, FRAMES[1].rgb), *prompts).best, DISC) > 0.7


def test_an_ambiguous_click_gives_three_candidates() -> None:
    segmenter = ImageModelSegmenter(tiny_model())
    embedding = segmenter.embed(FRAMES[0].rgb)
    assert len(segment(embedding, Points([(60, 55)], object_id=1)).masks_nhw) == 3
    assert len(segment(embedding, BOX).masks_nhw) == 1


@pytest.mark.parametrize("name", MAKERS)
def test_many_prompts_in_one_call_are_answered_as_one_by_one(name: str) -> None:
    prompts = [BOX, Points([(60, 55)], object_id=2), Points([(60, 55), (20, 100)], [1, 0], object_id=5)]
    image = MAKERS[name]().embed(FRAMES[0].rgb)
    together = image.segment(prompts)
    assert [found.object_id for found in together] == [1, 2, 5]
    for found, prompt in zip(together, prompts, strict=True):
        alone = segment(image, prompt)
        assert found.masks_nhw.shape == alone.masks_nhw.shape
        assert (found.masks_nhw == alone.masks_nhw).mean() > 0.999


def test_a_hook_chooses_among_the_candidates() -> None:
    image = ImageModelSegmenter(tiny_model(), choose=lambda prompt, found: 2).embed(FRAMES[0].rgb)
    found = segment(image, Points([(60, 55)], object_id=1))
    assert np.array_equal(found.best, found.masks_nhw[2])


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(
    "rgb", [None, FRAMES[0].rgb[..., 0], FRAMES[0].rgb / 255, np.dstack([FRAMES[0].rgb] * 2), FRAMES[0].rgb[:0]]
)
def test_what_is_no_image_is_refused(name: str, rgb: Any) -> None:
    with pytest.raises(ConfigError, match="frame or image must"):
        MAKERS[name]().embed(rgb)


@pytest.mark.parametrize("name", MAKERS)
def test_what_cannot_be_corrected_or_segmented_is_refused(name: str) -> None:
    image = MAKERS[name]().embed(FRAMES[0].rgb)
    small = MAKERS[name]().embed(FRAMES[0].rgb[:50, :60]).segment([Box((10, 10, 40, 40))])[0]
    for previous in (DISC[:50, :60], small):
        with pytest.raises(PromptError, match="the mask is 60x50"):
            image.segment([CLICKS], previous={1: previous})
    with pytest.raises(PromptError, match="object 7, but no prompt"):
        image.segment([CLICKS], previous={1: DISC, 7: DISC})
    with pytest.raises(PromptError, match="needs no segmenter"):
        image.segment([Mask(DISC)])
    with pytest.raises(PromptError, match=r"a Box, Points or Mask, not \(40, 35"):
        image.segment([(40, 35, 80, 75)])  # type: ignore[list-item]


@pytest.mark.parametrize("name", MAKERS)
def test_a_previous_mask_may_have_any_numbers(name: str) -> None:
    image = MAKERS[name]().embed(FRAMES[0].rgb)
    truth, numbers = (image.segment([CLICKS], previous={1: mask})[0].best for mask in (DISC, DISC * np.uint8(255)))
    assert np.array_equal(truth, numbers)


@pytest.mark.parametrize("chosen", [-1, 3, 1.5, None])
def test_a_hook_that_returns_no_candidate_is_refused(chosen: Any) -> None:
    image = ImageModelSegmenter(tiny_model(), choose=lambda prompt, found: chosen).embed(FRAMES[0].rgb)
    with pytest.raises(ConfigError, match="0 to 2, expected"):
        image.segment([Points([(60, 55)])])


def test_answers_of_another_model_count_by_their_mask() -> None:
    image = ImageModelSegmenter(tiny_model()).embed(FRAMES[0].rgb)
    other = Segmentation(1, DISC[None], np.ones(1, np.float32), np.zeros((1, 7, 9), np.float32))
    expected, found = (image.segment([CLICKS], previous={1: previous})[0] for previous in (DISC, other))
    assert np.array_equal(expected.masks_nhw, found.masks_nhw)
