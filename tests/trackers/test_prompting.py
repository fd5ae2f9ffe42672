"""What is drawn for the prompted network: of motion, an object that looks like its surroundings."""

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from samvideo.nano import prompted
from samvideo.nano.prompted import (
    BEYOND,
    BOX,
    HAS_BOX,
    MOTION,
    MOVED,
    NEAR,
    TRUST,
    YES,
    cut_by_motion,
    drawing,
    mask_of,
    with_barriers,
    with_motion,
)
from samvideo.nano.runtime import Networks
from samvideo.types import FloatArray, UInt8Array
from tests.scenes import overlap

SIDE = 64
HELD = (20.0, 16.0, 44.0, 48.0)
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE] + 0.5
MOVING = ((COLUMNS - 32) / 12) ** 2 + ((ROWS - 32) / 16) ** 2 <= 1


def picture() -> UInt8Array:
    noise = np.random.default_rng(0).normal(128, 60, (SIDE, SIDE, 3))
    return np.clip(cv2.GaussianBlur(noise, (0, 0), 2), 0, 255).astype(np.uint8)


def motion(speed: float = 3.0) -> FloatArray:
    moved = np.zeros((SIDE, SIDE, 3), np.float32)
    moved[..., 0] = speed * MOVING
    moved[..., 2] = 1
    return moved


def boxed(clicks: int = 0) -> FloatArray:
    xy = np.full((clicks, 2), 32, np.float32)
    held = (HELD, np.ones((SIDE, SIDE), np.float32))
    return drawing(picture(), np.ones((SIDE, SIDE), np.float32), held, xy, np.ones(clicks, np.int64))


@pytest.mark.parametrize("scale", [1, 3])
def test_what_moves_in_a_box_is_cut_out_though_it_looks_like_the_rest(scale: int) -> None:
    rgb = cv2.resize(picture(), None, fx=scale, fy=scale)
    cut = cut_by_motion(rgb, tuple(scale * side for side in HELD), motion())  # type: ignore[arg-type]
    assert cut.shape == (SIDE, SIDE)
    assert overlap(cut, MOVING) > 0.85


@pytest.mark.parametrize("box", [(0.0, 0.0, 1.0, 1.0), (63.5, 63.5, 64.0, 64.0), (0.0, 0.0, 64.0, 64.0)])
def test_a_cut_by_motion_holds_something(box: tuple[float, float, float, float]) -> None:
    assert cut_by_motion(picture(), box, motion(0)).any()


def test_a_border_of_motion_parts_an_object_from_its_surroundings() -> None:
    planes = with_barriers(with_motion(boxed(clicks=1), motion(), MOVING.astype(np.float32))[None])[0]
    inside = cv2.erode(MOVING.astype(np.uint8), np.ones((5, 5))) > 0
    outside = cv2.dilate(MOVING.astype(np.uint8), np.ones((5, 5))) == 0
    beyond, near = planes[BEYOND][1], planes[NEAR][1]
    assert beyond[inside].min() > 0.8 > 0.2 > beyond[outside].max()
    assert near[inside].min() > 0.8 > 0.2 > near[outside].max()
    assert (planes[MOVED][MOVING] == 1).all()
    assert (planes[MOVED][~MOVING] == -1).all()


def test_nothing_is_told_of_motion_that_is_not_known() -> None:
    planes = with_barriers(np.stack([boxed(clicks=1), with_motion(boxed(clicks=1), motion())]))
    for plane in (MOVED, TRUST, MOTION, BEYOND.start + 1, NEAR.start + 1):
        assert not planes[0, plane].any()
    assert planes[0, BEYOND.start].any()
    np.testing.assert_array_equal(planes[0, BEYOND.start], planes[1, BEYOND.start])


NO_CLICKS = np.zeros((0, 2), np.float32), np.zeros(0, np.int64)


class Halves(Networks):
    """Sees the upper part of a box; with a click, the shares of the box from `above` to `below`."""

    def __init__(self, above: float, below: float, likely: float) -> None:
        self.after, self.likely = (above, below), likely

    def draw(self, planes: Tensor) -> Tensor:
        first, last = self.after if bool((planes[:, YES] > 0.5).any()) else (0.0, 0.5)
        box = planes[:, BOX] > 0
        rows = torch.nonzero(box.any(2))[:, 1]
        top, height = rows.min(), rows.max() + 1 - rows.min()
        y = torch.arange(planes.shape[2])[None, :, None]
        seen = (y >= top + first * height) & (y < top + last * height)
        return torch.where(box & seen, 6.0, torch.where(box, self.likely, -6.0))


@pytest.mark.parametrize(
    ("above", "below", "likely", "reached"),
    [
        (0.0, 1.0, -1.0, 48),  # the rest was likely: it is clicked on, and seen
        (0.0, 1.0, -5.0, 32),  # not likely enough for a click
        (0.9, 1.0, -1.0, 32),  # a click that loses most of what was seen is not heard
    ],
)
def test_a_mask_that_stays_far_from_a_side_of_its_box_is_drawn_again(
    above: float, below: float, likely: float, reached: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompted, "settle", lambda rgb, box, odds, *rest: odds > 0)
    networks = Halves(above, below, likely)
    mask = mask_of(networks, picture(), HELD, *NO_CLICKS, np.zeros((SIDE, SIDE), bool))
    rows = np.flatnonzero(mask.any(1))
    assert abs(rows[0] - HELD[1]) <= 1
    assert abs(rows[-1] + 1 - reached) <= 1


class FarAndNear(Networks):
    """Sees the left of the object in the whole picture, its right in the window around that, and all of a box."""

    def __init__(self) -> None:
        self.asked = 0

    def draw(self, planes: Tensor) -> Tensor:
        self.asked += 1
        if bool(planes[:, HAS_BOX].any()):
            return torch.where(planes[:, BOX] > 0, 6.0, -6.0)
        x = torch.arange(planes.shape[3]) / planes.shape[3]
        y = torch.arange(planes.shape[2])[:, None] / planes.shape[2]
        left, right = ((x > 0.3) & (x < 0.55), (x > 0.4) & (x < 0.9))
        seen = (left if self.asked <= 2 else right) & (y > 0.3) & (y < 0.7)
        both = torch.where(seen, 6.0, -6.0)
        return torch.stack([both, both.flip(1)])  # the second picture is mirrored


def test_what_a_click_means_may_be_seen_partly_from_far_and_partly_from_near(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prompted, "settle", lambda rgb, box, odds, *rest: odds > 0)
    click = np.array([[32.5, 32.5]], np.float32), np.ones(1, np.int64)
    boxes = []
    drawn = prompted._boxed

    def boxed_(*args: object, **more: bool) -> object:
        boxes.append(args[2])
        return drawn(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(prompted, "_boxed", boxed_)
    mask = mask_of(FarAndNear(), picture(), None, *click, np.zeros((SIDE, SIDE), bool))
    assert mask[32, 32]
    ((left, _, right, _),) = boxes  # type: ignore[misc]
    assert left < 0.32 * SIDE
    assert right > 0.56 * SIDE
