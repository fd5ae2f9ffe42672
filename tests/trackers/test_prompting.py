"""What is drawn for the prompted network: of motion, an object that looks like its surroundings."""

import cv2
import numpy as np
import pytest

from samvideo.nano.prompting import (
    BEYOND,
    MOTION,
    MOVED,
    NEAR,
    TRUST,
    cut_by_motion,
    drawing,
    with_barriers,
    with_motion,
)
from samvideo.types import FloatArray, UInt8Array
from tests.scenes import overlap

SIDE = 64
BOX = (20.0, 16.0, 44.0, 48.0)
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
    held = (BOX, np.ones((SIDE, SIDE), np.float32))
    return drawing(picture(), np.ones((SIDE, SIDE), np.float32), held, xy, np.ones(clicks, np.int64))


@pytest.mark.parametrize("scale", [1, 3])
def test_what_moves_in_a_box_is_cut_out_though_it_looks_like_the_rest(scale: int) -> None:
    rgb = cv2.resize(picture(), None, fx=scale, fy=scale)
    cut = cut_by_motion(rgb, tuple(scale * side for side in BOX), motion())  # type: ignore[arg-type]
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
