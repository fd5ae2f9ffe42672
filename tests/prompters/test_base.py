"""Suppression of boxes, small regions, crops and clicks of automatic prompters."""

import numpy as np
import pytest

from samvideo.prompters.base import Candidate, inclusive_box, suppress
from samvideo.prompters.grid import click_grid, crops, cut_off
from samvideo.prompters.hierarchical import dense_clicks
from samvideo.prompters.regions import drop_islands, fill_holes, without_small_regions
from samvideo.types import Box, Points


def test_of_two_boxes_that_overlap_the_better_one_stays() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]], np.float32)
    assert suppress(boxes, np.array([0.5, 0.9, 0.1]), 0.5).tolist() == [1, 2]
    assert suppress(boxes, np.array([0.5, 0.9, 0.1]), 0.9).tolist() == [1, 0, 2]


def test_equal_scores_keep_their_order_and_boxes_without_area_stay() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [5, 5, 5, 5], [5, 5, 5, 5]], np.float32)
    assert suppress(boxes, np.ones(4), 0.5).tolist() == [0, 2, 3]
    assert suppress(boxes[:0], np.ones(0), 0.5).tolist() == []


@pytest.mark.parametrize("seed", range(3))
def test_suppression_is_what_its_definition_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 60, (80, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 40, (80, 2))], 1).astype(np.float32)
    scores = rng.permutation(80) / 80
    kept: list[int] = []
    for row in np.argsort(-scores):
        if all(_iou(boxes[row], boxes[other]) <= 0.4 for other in kept):
            kept.append(int(row))
    assert suppress(boxes, scores, 0.4).tolist() == kept


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = float(sides.clip(0).prod())
    return shared / float((one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod() - shared)


def test_candidates_are_unpacked_where_their_crop_is() -> None:
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:5] = True
    found = Candidate(np.packbits(mask), (10, 20, 16, 24), inclusive_box(mask), 0.9, 0.8, ((2.0, 1.0),))
    whole = found.proposal((30, 40))
    assert whole.mask.shape == (40, 30)
    assert whole.box == (12, 21, 15, 23)
    assert whole.area == 6
    assert isinstance(whole.prompt, Points)
    assert whole.prompt.xy.tolist() == [[12, 21]]
    box = Candidate(np.packbits(mask), (10, 20, 16, 24), (2, 1, 4, 2), 0.9, 0.8, ((2.0, 1.0), (5.0, 3.0)))
    assert isinstance(box.proposal((30, 40)).prompt, Box)


def test_a_mask_at_the_edge_of_a_crop_is_cut_off_unless_the_image_ends_there() -> None:
    def at(box: tuple[int, int, int, int], crop: tuple[int, int, int, int]) -> bool:
        return cut_off(Candidate(np.zeros(0, np.uint8), crop, box, 0.9, 0.9, ((0.0, 0.0),)), (400, 300))

    assert at((0, 50, 40, 90), (200, 0, 400, 300))
    assert not at((0, 50, 40, 90), (0, 0, 200, 300))
    assert not at((60, 50, 100, 90), (200, 0, 400, 300))


def test_crops_cover_the_image_and_overlap() -> None:
    found = list(crops((200, 100), 1, 0.2))
    assert [layer for _, layer in found] == [0, 1, 1, 1, 1]
    assert found[0][0] == (0, 0, 200, 100)
    assert [crop for crop, _ in found[1:]] == [
        (0, 0, 110, 60), (0, 40, 110, 100), (90, 0, 200, 60), (90, 40, 200, 100)
    ]  # fmt: skip


def test_clicks_are_the_middles_of_cells_row_by_row() -> None:
    assert click_grid(2).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]


def test_dense_clicks_leave_out_what_is_sure_and_the_coarse_ones() -> None:
    coarse = click_grid(2) * (64, 64)
    sure = np.zeros((64, 64), bool)
    everywhere = dense_clicks(coarse, sure, 8)
    assert len(everywhere) == 8 * 4 + 3 * 2 + 3 * 2 + 1  # what is beyond the last coarse click has no other
    assert not {(16.0, 16.0)} & {tuple(click) for click in everywhere.tolist()}
    sure[:, :32] = True
    assert (dense_clicks(coarse, sure, 8)[:, 0] >= 32).all()
    assert not len(dense_clicks(coarse, ~np.zeros((64, 64), bool), 8))


def test_holes_are_filled_and_islands_dropped() -> None:
    mask = np.zeros((20, 30), bool)
    mask[2:12, 2:12] = True
    mask[5:7, 5:7] = False
    mask[15:17, 20:23] = True
    filled, had_holes = fill_holes(mask, 10)
    assert had_holes
    assert filled[5, 5]
    assert not filled[0, 0]
    left, had_islands = drop_islands(filled, 10)
    assert had_islands
    assert left.sum() == 100
    assert drop_islands(mask, 3)[1] is False
    only, _ = drop_islands(mask & (np.arange(30) > 15), 100)
    assert only.sum() == 6, "the largest island stays"


def test_masks_that_are_alike_once_small_regions_are_gone_are_one() -> None:
    mask = np.zeros((20, 30), bool)
    mask[2:12, 2:12] = True
    speck = mask.copy()
    speck[18, 28] = True
    proposals = [
        Candidate(np.packbits(m), (0, 0, 30, 20), inclusive_box(m), 0.9, 0.9, ((1.0, 1.0),)).proposal((30, 20))
        for m in (speck, mask)
    ]
    assert [one.area for one in without_small_regions(proposals, 0, 0.7)] == [101, 100]
    assert [one.area for one in without_small_regions(proposals, 5, 0.7)] == [100]
