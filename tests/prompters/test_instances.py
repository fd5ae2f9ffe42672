"""FastSAM's rules of selection, each on masks that are drawn by hand."""

import numpy as np
import pytest

from samvideo.errors import ConfigError, PromptError
from samvideo.prompters.base import MaskProposal
from samvideo.prompters.instances import by_boxes, by_points, by_text
from samvideo.types import Box, Points

SIZE = (40, 30)
LARGE, SMALL, OTHER = (2, 2, 22, 22), (8, 8, 20, 20), (28, 4, 38, 24)


def instance(x1: int, y1: int, x2: int, y2: int) -> MaskProposal:
    mask = np.zeros(SIZE[::-1], bool)
    mask[y1:y2, x1:x2] = True
    return MaskProposal(mask, 0.9, 0.9, None, (0, 0, *SIZE))


def boxes_of(found: list[MaskProposal]) -> list[tuple[float, ...] | None]:
    return [one.box for one in found]


@pytest.mark.parametrize(
    ("boxes", "selected"),
    [
        ([(1, 1, 23, 23)], [LARGE]),
        ([(9, 9, 19, 19)], [SMALL]),
        ([(27, 0, 40, 30), (9, 9, 19, 19)], [OTHER, SMALL]),  # in the order of the boxes
        ([(9, 9, 19, 19), (8, 8, 20, 20)], [SMALL]),  # each mask once
        ([(2, 25, 6, 29)], [LARGE]),  # beside all masks: the first
        ([(-50, -50, 23, 23)], [LARGE]),  # cut at the image
        ([(50, 50, 60, 60)], [LARGE]),  # beside the image, which is like beside all masks
        ([(27.6, 3.5, 38.4, 24.5)], [OTHER]),
    ],
)
def test_boxes(boxes: list[tuple[float, float, float, float]], selected: list[tuple[int, ...]]) -> None:
    found = by_boxes([instance(*LARGE), instance(*SMALL), instance(*OTHER)], [Box(box) for box in boxes])
    assert boxes_of(found) == selected
    assert [one.prompt.xyxy for one in found if isinstance(one.prompt, Box)] == boxes[: len(found)]


def test_boxes_are_rounded() -> None:
    """To even numbers at halves: 10.5 is 10, so that columns 10 to 11 are one pixel of each of two masks."""
    left, right = instance(0, 0, 11, 10), instance(11, 0, 22, 10)
    assert boxes_of(by_boxes([right, left], [Box((10.5, 0, 11.4, 10))])) == [left.box]
    assert boxes_of(by_boxes([left, right], [Box((10.6, 0, 12.4, 10))])) == [right.box]


def test_intersection_is_counted_in_the_box() -> None:
    """A mask that reaches far out of the box loses against a small one in it."""
    far, within = instance(0, 0, 40, 30), instance(10, 10, 14, 14)
    assert boxes_of(by_boxes([far, within], [Box((9, 9, 15, 15))])) == [within.box]


@pytest.mark.parametrize(
    ("clicks", "labels", "inside"),
    [
        ([(4, 4)], [1], [LARGE]),
        ([(10, 10)], [1], [LARGE]),  # in the small one too, which is a part of the large one
        ([(10, 10)], [0], []),
        ([(30, 10), (4, 4)], [1, 1], [LARGE, OTHER]),
        ([(10, 10), (4, 4)], [1, 0], [SMALL]),  # the large one is taken away last, then the small one added
        ([(4, 4), (10, 10)], [0, 1], [LARGE]),  # of two clicks in the large one the later one decides
        ([(1, 1)], [1], []),
        ([(37.9, 23.9)], [1], [OTHER]),  # pixel 37, 23
    ],
)
def test_points(clicks: list[tuple[float, float]], labels: list[int], inside: list[tuple[int, ...]]) -> None:
    instances = [instance(*SMALL), instance(*OTHER), instance(*LARGE)]
    expected = np.zeros(SIZE[::-1], bool)
    for box in inside:
        expected |= instance(*box).mask
    assert (by_points(instances, Points(clicks, labels), SIZE) == expected).all()


def test_smaller_masks_override_larger_ones() -> None:
    merged = by_points([instance(*SMALL), instance(*LARGE)], Points([(10, 10), (4, 4)], [0, 1]), SIZE)
    assert (merged == instance(*LARGE).mask & ~instance(*SMALL).mask).all()


def test_points_at_the_edge_and_outside() -> None:
    whole = instance(0, 0, *SIZE)
    assert by_points([whole], Points([(40, 30)]), SIZE).all()
    with pytest.raises(PromptError, match="outside the frame"):
        by_points([whole], Points([(41, 3)]), SIZE)


def test_nothing_to_select_from() -> None:
    assert by_boxes([], [Box((1, 1, 9, 9))]) == []
    assert not by_points([], Points([(4, 4)]), SIZE).any()
    assert by_text([], np.zeros((30, 40, 3), np.uint8), "ball", lambda crops, text: np.ones(0)) is None


def test_text() -> None:
    """Masks of 100 pixels are skipped; outside of the mask a crop is white."""
    rgb = np.full((*SIZE[::-1], 3), 50, np.uint8)
    hundred, ring = instance(28, 4, 38, 14), instance(*LARGE)
    ring.mask[8:20, 8:20] = False
    seen = []

    def similarity(crops: list[np.ndarray], text: str) -> np.ndarray:
        seen.extend(crops)
        assert text == "ring"
        return np.array([0.31, 0.30])

    found = by_text([hundred, ring, instance(*SMALL)], rgb, "ring", similarity)
    assert found is not None
    assert [crop.shape for crop in seen] == [(20, 20, 3), (12, 12, 3)]
    assert (seen[0][6:18, 6:18] == 255).all()
    assert (seen[0][ring.mask[2:22, 2:22]] == 50).all()
    assert (found.mask == ring.mask).all()
    assert found.label == "ring"
    assert found.score == pytest.approx(np.e / (np.e + 1))  # softmax of 100 times the similarity


def test_similarities_are_checked() -> None:
    rgb = np.zeros((*SIZE[::-1], 3), np.uint8)
    for bad in (np.ones(3), np.array([np.nan])):
        with pytest.raises(ConfigError, match="1 finite similarities expected"):
            by_text([instance(*LARGE)], rgb, "ring", lambda crops, text, bad=bad: bad)
    with pytest.raises(PromptError, match="is empty"):
        by_text([instance(*LARGE)], rgb, " ", lambda crops, text: np.ones(1))
