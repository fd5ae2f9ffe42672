"""Motion towards the upcoming frame, of which first masks make use."""

import numpy as np
import pytest

from samvideo.cues.motion import own_motion
from samvideo.cues.view import View
from samvideo.cues.warp import DenseFlow
from samvideo.nano.prompted import mask_of
from samvideo.nano.runtime import load
from tests.scenes import RED, Shape, overlap, scene

DISC = Shape(lambda index: (40 + 2.0 * index, 55), 18, RED)


def test_own_motion_is_that_of_the_object_not_of_the_camera() -> None:
    frames, truth = scene(3, DISC)  # the ground goes one pixel to the left and half of one up
    here, there = View(frames[0].rgb, 160), View(frames[2].rgb, 160)
    motion = own_motion(DenseFlow(), here, there)
    inside, outside = truth[0, 0], ~(truth[0, 0] | truth[2, 0])
    assert motion.shape == (120, 160, 3)
    np.testing.assert_allclose(np.median(motion[inside][:, :2], 0), (6, 1), atol=0.7)
    assert np.abs(np.median(motion[outside][:, :2], 0)).max() < 0.3
    assert motion[..., 2].min() >= 0
    assert motion[..., 2].max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (9, 7), (40, 20)])
def test_own_motion_of_pictures_without_texture(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    here, there = (View(rng.integers(0, 256, (*size, 3), np.uint8), 160) for _ in range(2))
    assert np.isfinite(own_motion(DenseFlow(), here, there)).all()


def test_a_mirrored_picture_with_mirrored_motion_has_the_mirrored_mask() -> None:
    frames, _ = scene(3, DISC)
    rgb, box = frames[0].rgb, (20.0, 35.0, 60.0, 75.0)
    motion = own_motion(DenseFlow(), View(rgb, 160), View(frames[2].rgb, 160))
    mirrored = np.ascontiguousarray(motion[:, ::-1] * np.array([-1, 1, 1], np.float32))
    none, no_clicks = np.zeros(rgb.shape[:2], bool), (np.zeros((0, 2), np.float32), np.zeros(0, np.int64))
    mask = mask_of(load(), rgb, box, *no_clicks, none, motion)
    turned = np.ascontiguousarray(rgb[:, ::-1])
    other = mask_of(load(), turned, (100.0, 35.0, 140.0, 75.0), *no_clicks, none, mirrored)
    assert overlap(mask, other[:, ::-1]) > 0.95
