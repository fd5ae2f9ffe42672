"""Losses on tiny masks, and where simulated prompts lie."""

import math

import pytest
import torch

from samvideo.memory.base import CODE_ROWS
from samvideo.training.losses import dice_loss, focal_loss, mask_loss, quality_loss, soft_iou
from samvideo.training.objective import recall_codes, some_objects
from samvideo.training.prompting import (
    STRIDE,
    box_prompts,
    boxes,
    click_prompts,
    clicks,
    corrected,
    either,
    rough_logits,
)

HALF = torch.zeros(1, 4, 4)
HALF[:, :2] = 1
SURE = 40 * (2 * HALF - 1)


def test_mask_loss_has_the_right_values() -> None:
    assert mask_loss(SURE, HALF).item() == pytest.approx(0, abs=1e-4)
    unsure = mask_loss(torch.zeros(1, 4, 4), HALF).item()
    assert unsure == pytest.approx(math.log(2) + 1 - 9 / 17)  # Dice: (2 * 4 + 1) / (8 + 8 + 1)
    one = SURE.clone()
    one[0, 0, 0] = -40  # one of the four hardest pixels, and Dice of 7 + 8
    assert mask_loss(one, HALF).item() == pytest.approx(10 + 1 - 15 / 16, rel=1e-4)
    assert mask_loss(-SURE, HALF) > mask_loss(one, HALF)
    assert mask_loss(torch.full((1, 4, 4), -40.0), torch.zeros(1, 4, 4)).item() == pytest.approx(0, abs=1e-4)
    soft = torch.full((1, 4, 4), 0.5)
    assert mask_loss(torch.zeros(1, 4, 4), soft) < mask_loss(SURE, soft)


def test_focal_loss_has_the_right_values() -> None:
    assert focal_loss(SURE, HALF).item() == pytest.approx(0, abs=1e-6)
    assert focal_loss(torch.zeros(1, 4, 4), HALF).item() == pytest.approx(0.5 * 0.25 * math.log(2))
    one = SURE.clone()
    one[0, 0, 0] = -40
    assert focal_loss(one, HALF).item() == pytest.approx(0.25 * 40 / 16)
    one[0, 0, 0], one[0, 3, 3] = 40, 40
    assert focal_loss(one, HALF).item() == pytest.approx(0.75 * 40 / 16)
    assert dice_loss(torch.zeros(1, 4, 4), HALF).item() == pytest.approx(1 - 9 / 17)


def test_iou_and_quality() -> None:
    quarter = SURE.clone()
    quarter[:, 1] = -40
    masks = torch.cat([HALF, HALF, HALF, torch.zeros(1, 4, 4)])
    logits = torch.cat([SURE, quarter, -SURE, torch.full((1, 4, 4), -1.0)])
    assert soft_iou(logits, masks).tolist() == [1, 0.5, 0, 1]
    iou = torch.tensor(0.7)
    values = [quality_loss(torch.tensor(quality), iou).item() for quality in (0.6, 0.7, 0.8)]
    assert min(values) == values[1]
    assert math.isfinite(quality_loss(torch.tensor(0.0), iou).item())


@pytest.fixture
def masks() -> torch.Tensor:
    """Sixty-four equal rectangles at stride 4: x 10 to 29, y 20 to 29."""
    masks = torch.zeros(64, 64, 64)
    masks[:, 20:30, 10:30] = 1
    torch.manual_seed(0)
    return masks


def test_boxes_surround_their_objects(masks: torch.Tensor) -> None:
    found = boxes(masks)
    true = torch.tensor([10.0, 20, 30, 30]) * STRIDE
    off = (found - true).abs()
    exact = (off == 0).all(1)
    assert 0.2 < exact.float().mean() < 0.6
    assert (off <= 0.1 * STRIDE * torch.tensor([20.0, 10, 20, 10]) + 1e-4).all()
    assert box_prompts(masks).labels.tolist() == [[2, 3]] * 64
    assert torch.isfinite(boxes(torch.zeros(1, 8, 8))).all()


def test_clicks_lie_in_their_regions(masks: torch.Tensor) -> None:
    found = (clicks(masks) + 0.5) / STRIDE  # cells
    x, y = found.T
    assert ((x > 10) & (x < 30) & (y > 20) & (y < 30)).all()
    assert x.std() > 1
    assert click_prompts(masks).labels.tolist() == [[1]] * 64


def test_corrections_are_where_the_prediction_errs(masks: torch.Tensor) -> None:
    prompts = click_prompts(masks)
    logits = 2 * masks - 1
    missing, extra = logits.clone(), logits.clone()
    missing[:, 20:30, 10:18] = -1
    extra[:, 40:50, 40:50] = 1
    again = corrected(prompts, missing, masks)
    assert again.labels[:, 1].tolist() == [1] * 64
    assert (again.xy[:, 1, 0] < 18 * STRIDE).all()
    again = corrected(prompts, extra, masks)
    assert again.labels[:, 1].tolist() == [0] * 64
    assert (again.xy[:, 1] >= 40 * STRIDE - 0.5).all()
    assert corrected(prompts, logits, masks).labels[:, 1].tolist() == [-1] * 64  # nothing to correct
    both = either(torch.arange(64) < 32, box_prompts(masks), prompts)
    assert both.labels[:32].tolist() == [[2, 3]] * 32
    assert both.labels[32:].tolist() == [[1, -1]] * 32


def test_rough_logits_resemble_the_mask(masks: torch.Tensor) -> None:
    iou = soft_iou(rough_logits(masks)[:, 0], masks)
    assert iou.mean() > 0.5
    assert iou.std() > 0.02


def test_the_same_generator_chooses_the_same_objects() -> None:
    known = torch.tensor([[True, False], [True, True], [True, False]])
    first, second, other = (some_objects(known, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert len(first) == len(other) == 4  # three quarters of six slots
    assert known[first[:, 0], first[:, 1]].all()


def test_at_most_as_many_frames_are_recalled_as_the_temporal_code_has_rows() -> None:
    recalled = recall_codes(12, torch.device("cpu"), torch.Generator().manual_seed(0))
    assert [places.tolist() for places, _ in recalled[:3]] == [[0], [0, 1], [0, 1, 2]]
    assert [len(rows) for _, rows in recalled] == [1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 7]
    for newest, (places, rows) in enumerate(recalled[1:], 1):
        assert places.unique().equal(places), "in their order"
        assert (places[0], places[-1]) == (0, newest)
        assert (rows[0], rows[-1]) == (CODE_ROWS - 1, 0)
        assert rows.unique().flip(0).equal(rows)
    assert recalled[-1][0].diff().max() > 1
