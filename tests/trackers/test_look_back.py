"""First masks guessed from a box or a click are drawn again once it is seen how things move."""

from collections.abc import Iterator

import numpy as np
import pytest

from samvideo.errors import VideoError
from samvideo.nano.prompting import mask_of
from samvideo.nano.runtime import load
from samvideo.trackers.base import foresee, with_next
from samvideo.trackers.objects import ObjectPrompt
from samvideo.trackers.parts.motion import own_motion
from samvideo.trackers.parts.target import Target, TargetConfig
from samvideo.trackers.parts.view import View
from samvideo.trackers.parts.warp import DenseFlow
from samvideo.trackers.pursuit import Pursuit
from samvideo.types import BoolArray, Box, FloatArray, Frame, Mask, Points, UInt8Array
from tests.scenes import BLUE, RED, Shape, overlap, scene

DISC = Shape(lambda index: (40 + 2.0 * index, 55), 18, RED)
OTHER = Shape(lambda index: (110, 40 + 1.0 * index), 14, BLUE)


class Drawn(Pursuit):
    """Draws the left half of a box at first, and as `later` says once it sees motion."""

    def __init__(self, later: BoolArray, by_motion: bool = True) -> None:
        self.later = later
        self.moving: list[FloatArray] = []
        super().__init__(160, 2, 64, by_motion)

    def new_target(self) -> Target:
        return Target(TargetConfig())

    def first_mask(
        self, rgb: UInt8Array, prompt: ObjectPrompt, before: BoolArray, motion: FloatArray | None = None
    ) -> BoolArray:
        if motion is not None:
            self.moving.append(motion)
            return self.later.copy()
        mask = before.copy()
        x1, y1, x2, y2 = (int(v) for v in prompt.box or (*prompt.xy[0] - 9, *prompt.xy[0] + 9))
        mask[y1:y2, x1 : (x1 + x2) // 2] = True
        return mask


@pytest.mark.parametrize("prompt", [Box((22, 37, 58, 73)), Points([(40, 55)], [1])])
def test_a_guess_is_drawn_again_and_followed_from_there(prompt: Box | Points) -> None:
    frames, truth = scene(8, DISC)
    tracker = Drawn(truth[0, 0])
    first = tracker.step(frames[0], [prompt]).masks[0]
    later = [tracker.step(frame).masks[0] for frame in frames[1:]]
    assert overlap(first, truth[0, 0]) < 0.6
    assert overlap(later[0], truth[1, 0]) > 0.85
    assert overlap(later[-1], truth[-1, 0]) > 0.85
    assert len(tracker.moving) == 1


@pytest.mark.parametrize(
    "prompts",
    [
        lambda truth: [Mask(truth[0, 0])],
        lambda truth: [Points([(40, 55), (45, 60)], [1, 1])],
        lambda truth: [Box((22, 37, 58, 73), object_id=1), Points([(40, 55)], [1], object_id=1)],
    ],
)
def test_what_was_told_with_care_is_left_alone(prompts: object) -> None:
    frames, truth = scene(6, DISC)
    tracker = Drawn(~truth[0, 0])
    tracker.step(frames[0], prompts(truth))  # type: ignore[operator]
    for frame in frames[1:]:
        tracker.step(frame)
    assert not tracker.moving


def test_what_was_forgotten_is_not_drawn_again() -> None:
    frames, truth = scene(3, DISC, OTHER)
    tracker = Drawn(truth[0, 0])
    tracker.step(frames[0], [Box((22, 37, 58, 73)), Box((96, 26, 124, 54))])
    tracker.forget(2)
    for frame in frames[1:]:
        tracker.step(frame)
    assert len(tracker.moving) == 1
    tracker.reset()
    tracker.step(frames[0], [Box((22, 37, 58, 73))])
    tracker.forget(1)
    tracker.step(frames[1])
    assert len(tracker.moving) == 1


def test_what_other_objects_hold_is_theirs_also_later() -> None:
    frames, truth = scene(6, DISC, OTHER)
    tracker = Drawn(truth[0].any(0))
    tracker.step(frames[0], [Mask(truth[0, 1], object_id=2), Box((22, 37, 58, 73), object_id=1)])
    for frame in frames[1:]:
        masks = tracker.step(frame).masks
        assert not (masks[0] & masks[1]).any()
    assert overlap(masks[0], truth[-1, 0]) > 0.8
    assert overlap(masks[1], truth[-1, 1]) > 0.8


def test_a_guess_is_drawn_once_when_the_next_frame_is_foreseen() -> None:
    frames, truth = scene(4, DISC)
    tracker = Drawn(truth[0, 0])
    foresee(tracker, frames[1])
    first = tracker.step(frames[0], [Box((22, 37, 58, 73))]).masks[0]
    later = [tracker.step(frame).masks[0] for frame in frames[1:]]
    assert overlap(first, truth[0, 0]) == 1
    assert overlap(later[-1], truth[-1, 0]) > 0.85
    assert len(tracker.moving) == 1


def test_a_tracker_that_draws_without_motion_does_not_ask_how_things_move() -> None:
    frames, truth = scene(2, DISC)
    tracker = Drawn(truth[0, 0], by_motion=False)
    foresee(tracker, frames[1])
    tracker.step(frames[0], [Box((22, 37, 58, 73))])
    assert not tracker.moving


def test_what_was_foreseen_is_of_one_step_and_of_one_size() -> None:
    frames, truth = scene(4, DISC)
    tracker, careful = Drawn(truth[0, 0]), Points([(40, 55), (45, 60)], [1, 1], object_id=2)
    foresee(tracker, frames[1])
    foresee(tracker, None)
    tracker.step(frames[0], [Mask(truth[0, 0], object_id=1)])
    tracker.step(frames[1], [careful])
    foresee(tracker, Frame(3, 0.1, np.zeros((8, 8, 3), np.uint8)))
    tracker.step(frames[2], [careful])
    tracker.step(frames[3], [careful])
    foresee(tracker, frames[1])
    tracker.reset()
    tracker.step(frames[0], [careful])
    assert not tracker.moving


def test_frames_come_with_the_next_one_and_an_error_after_the_last_good_one() -> None:
    frames, _ = scene(3, DISC)

    def broken() -> Iterator[Frame]:
        yield from frames
        raise VideoError("broken off")

    assert [(a.index, b and b.index) for a, b in with_next(frames)] == [(0, 1), (1, 2), (2, None)]
    assert list(with_next([])) == []
    pairs = with_next(broken())
    assert [next(pairs)[0].index for _ in frames] == [0, 1, 2]
    with pytest.raises(VideoError, match="broken off"):
        next(pairs)


def test_nothing_is_kept_of_a_guess_that_was_seen_through() -> None:
    frames, truth = scene(6, DISC)
    tracker = Drawn(truth[0, 0])
    tracker.step(frames[0], [Box((22, 37, 58, 73))])
    for frame in frames[1:]:
        tracker.step(frame)
    assert tracker._guess is None


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
def test_own_motion_of_pictures_that_tell_nothing(size: tuple[int, int]) -> None:
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
