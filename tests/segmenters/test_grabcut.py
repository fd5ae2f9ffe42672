"""GrabCut: what boxes and clicks become, and how clicks correct a mask."""

import numpy as np

from samvideo.segmenters.grabcut import GrabCutSegmenter
from samvideo.types import BoolArray, Box, Points, Prompt
from tests.scenes import BLUE, RED, Shape, overlap, scene

FRAMES, TRUTH = scene(
    1, Shape(lambda index: (60 + 2.0 * index, 50), 20, RED), Shape(lambda index: (120, 80), 14, BLUE)
)


def segment(*prompts: Prompt, previous: BoolArray | None = None) -> BoolArray:
    image = GrabCutSegmenter().embed(FRAMES[0].rgb)
    return image.segment(prompts, previous={} if previous is None else {1: previous})[0].best


def test_prompts_become_masks() -> None:
    assert overlap(segment(Box((40, 30, 80, 70), object_id=1)), TRUTH[0, 0]) > 0.9
    assert overlap(segment(Points([(60, 50)], object_id=1)), TRUTH[0, 0]) > 0.8


def test_a_click_takes_a_part_away() -> None:
    clicks = Points([(60, 50), (120, 80)], [1, 0], object_id=1)
    corrected = segment(clicks, previous=TRUTH[0].any(0))
    assert not corrected[80, 120]
    assert overlap(corrected, TRUTH[0, 0]) > 0.8


def test_nothing_outside_of_a_box_is_taken_whatever_was_clicked() -> None:
    mask = segment(Box((50, 35, 80, 70), object_id=1), Points([(79.5, 50), (40.5, 50)], object_id=1))
    assert mask.any()
    outside = np.ones_like(mask)
    outside[35:70, 50:80] = False
    assert not mask[outside].any()
