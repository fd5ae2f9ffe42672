from dataclasses import replace

import numpy as np
import pytest

from samvideo.errors import ConfigError, PromptError
from samvideo.geometry import clip_box, fit_size, mask_box, mask_centroid, pairwise_box_iou, scale_points
from samvideo.object_prompts import group_prompts, group_tracked, number_prompts
from samvideo.types import Box, Frame, FrameResult, Mask, Points, Prompt


@pytest.mark.parametrize(
    "rgb", [np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3), np.float32), np.zeros((0, 2, 3), np.uint8)]
)
def test_a_frame_is_checked(rgb: np.ndarray) -> None:
    with pytest.raises(ConfigError, match="frame or image must"):
        Frame(0, 0.0, rgb)


def test_a_result_is_checked_and_asked_by_id() -> None:
    masks = np.zeros((2, 3, 4), bool)
    result = FrameResult(5, 0.2, (1, 7), masks, np.ones(2, np.float32), np.array([True, False]))
    assert result.mask(7).shape == (3, 4)
    assert "7: lost" in repr(result)
    with pytest.raises(KeyError, match="object 2 is not tracked"):
        result.mask(2)
    with pytest.raises(ConfigError, match="2 objects need masks"):
        FrameResult(5, 0.2, (1, 7), masks[:1], np.ones(2, np.float32), np.ones(2, bool))


def test_boxes_are_clipped_or_refused() -> None:
    assert clip_box((-5, 2, 3, 99), (10, 8)) == (0, 2, 3, 8)
    for outside in ((10, 0, 12, 5), (-9, 0, 0, 5), (0, 8, 5, 9)):
        with pytest.raises(PromptError, match="outside the frame"):
            clip_box(outside, (10, 8))


def test_mask_measures() -> None:
    mask = np.zeros((4, 4), bool)
    assert mask_box(mask) is None
    assert mask_centroid(mask) is None
    mask[1:3, 1:4] = True
    assert mask_box(mask) == (1, 1, 4, 3)
    assert mask_centroid(mask) == (2.5, 2.0)


def test_sizes() -> None:
    assert fit_size((854, 480), 427) == (427, 240)
    assert fit_size((1, 1000), 100) == (1, 100)
    assert fit_size((10, 10), 100) == (10, 10)
    assert scale_points(np.array([[10, 20]], np.float32), (100, 100), (50, 200)).tolist() == [[5, 40]]


BOX = Box((0, 0, 2, 2))


def test_free_ids_are_given_in_order() -> None:
    prompts = [BOX, Box((0, 0, 2, 2), object_id=2), BOX]
    assert [p.object_id for p in number_prompts(prompts)] == [1, 2, 3]
    assert [p.object_id for p in number_prompts(prompts, taken=(1,))] == [3, 2, 4]


def test_a_prompt_on_a_later_frame_corrects_the_object_that_it_names() -> None:
    click = Points([(1, 1)], labels=[0], object_id=1, frame=9)
    assert [p.object_id for p in number_prompts([BOX, click])] == [1, 1]
    assert [p.object_id for p in number_prompts([click, BOX])] == [1, 2]
    assert [p.object_id for p in number_prompts([BOX, replace(click, frame=0)])] == [2, 1], "the same frame"
    assert [p.object_id for p in number_prompts([BOX, replace(click, frame=None, seconds=0.5)])] == [1, 1]


def test_a_new_object_needs_more_than_clicks_that_are_not_on_it() -> None:
    click = Points([(1, 1)], labels=[0], object_id=1)
    with pytest.raises(PromptError, match="object 1 is new, and has only clicks that are not on it"):
        group_tracked([click], (2,), (4, 4))
    assert len(group_tracked([click], (1,), (4, 4))) == 1
    assert len(group_tracked([click, replace(BOX, object_id=1)], (), (4, 4))) == 1


def test_prompts_of_one_object_are_joined() -> None:
    prompts = [
        Points([(1, 1)], object_id=3),
        Box((-1, 0, 3, 2), object_id=3),
        Points([(2, 2)], [0], object_id=3),
        BOX,
    ]
    first, second = group_prompts(prompts, (), (4, 4))
    assert (first.object_id, second.object_id) == (1, 3)
    assert second.box == (0, 0, 3, 2)
    assert second.xy.tolist() == [[1, 1], [2, 2]]
    assert second.labels.tolist() == [1, 0]
    assert second.mask is None


def test_a_result_of_some_objects() -> None:
    masks = np.arange(24).reshape(3, 2, 4) % 5 == 0
    logits = np.where(masks, 1.0, -1.0).astype(np.float32)
    scores, present = np.array([0.1, 0.2, 0.3], np.float32), np.array([True, False, True])
    result = FrameResult(4, 0.5, (1, 3, 7), masks, scores, present, logits)
    kept = result.select({7, 1, 99})
    assert (kept.index, kept.seconds, kept.object_ids) == (4, 0.5, (1, 7))
    assert (kept.masks == masks[[0, 2]]).all()
    assert kept.logits is not None
    assert (kept.logits == logits[[0, 2]]).all()
    assert (kept.scores.tolist(), kept.present.tolist()) == (scores[[0, 2]].tolist(), [True, True])
    assert result.select(()).masks.shape == (0, 2, 4)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([Box((0, 0, 1, 1), object_id=1), Box((0, 0, 2, 2), object_id=1)], "object 1 has 2 boxes"),
        ([Mask(np.ones((4, 4)), object_id=1), Points([(1, 1)], object_id=1)], "1 masks and 1 sets of points"),
        ([Mask(np.ones((3, 4)))], "the mask is 4x3, the frame 4x4"),
        ([Points([(1, 5)])], r"point \(1, 5\) is outside"),
        ([Box((8, 0, 9, 1))], "outside the frame"),
    ],
)
def test_prompts_that_do_not_fit(prompts: list[Prompt], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        group_prompts(prompts, (), (4, 4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Box((0, 0, float("nan"), 1)), "finite"),
        (lambda: Box((0, 0, 1)), "four"),  # type: ignore[arg-type]
        (lambda: Box((2, 0, 1, 1)), "no area"),
        (lambda: Points([]), "finite .x, y. pairs"),
        (lambda: Points([("a", None)]), "finite .x, y. pairs"),
        (lambda: Points([(0.2, 0.3), (0.4, 0.5)]), "shares of the frame"),
        (lambda: Box((0.2, 0.3, 0.4, 0.5)), "shares of the frame"),
        (lambda: Points([(1, float("inf"))]), "finite"),
        (lambda: Points([(1, 1)], [1, 0]), "1 values"),
        (lambda: Mask(np.zeros((1, 2, 2))), "one \\(H, W\\) array"),
        (lambda: Box((0, 0, 1, 1), frame=1, seconds=0.1), "not both"),
        (lambda: Box((0, 0, 1, 1), frame=-1), "frame is -1"),
        (lambda: Box((0, 0, 1, 1), seconds=-1.0), "at least 0"),
        (lambda: Box((0, 0, 1, 1), object_id=0), "object_id is 0"),
        (lambda: Box((0, 0, 1, 1), object_id=1.5), "object_id is 1.5"),  # type: ignore[arg-type]
        (lambda: Box((0, 0, 1, 1), object_id=True), "object_id is True"),
        (lambda: Box((0, 0, 1, 1), object_id=2**31), "object_id is 2147483648"),
        (lambda: Box((0, 0, 1, 1), frame=10**5000), "too long to print"),
        (lambda: Box((0, 0, 1, 1), frame="1"), "frame is '1'"),  # type: ignore[arg-type]
        (lambda: Box((0, 0, 1, 1), seconds=float("inf")), "seconds is inf"),
    ],
)
def test_malformed_prompts(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(PromptError, match=message):
        make()


def test_overlap_of_boxes_by_pair() -> None:
    boxes = np.array([[0, 0, 2, 2], [5, 5, 5, 5]], np.float32)
    others = np.array([[1, 0, 3, 2], [0, 0, 2, 2], [5, 5, 5, 5]], np.float32)
    np.testing.assert_allclose(pairwise_box_iou(boxes, others), [[1 / 3, 1, 0], [0, 0, 0]], rtol=1e-6)
    assert pairwise_box_iou(boxes, np.zeros((0, 4), np.float32)).shape == (2, 0)
