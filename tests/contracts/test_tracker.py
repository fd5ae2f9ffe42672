"""What every tracker promises (samvideo.trackers.base.Tracker)."""

from collections.abc import Callable

import numpy as np
import psutil
import pytest
from tiny_sam import tiny_model, tiny_tracker

from samvideo.checkpoints import load
from samvideo.errors import ConfigError, PromptError, VideoError
from samvideo.segmenters.grabcut import GrabCutSegmenter
from samvideo.segmenters.image_model import ImageModelSegmenter
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.base import Tracker
from samvideo.trackers.factory import create_tracker
from samvideo.trackers.first_mask import FirstMaskTracker
from samvideo.trackers.flow import FlowTracker
from samvideo.trackers.sam import SamTracker
from samvideo.types import Box, Frame, FrameResult, Mask, Points
from tests.scenes import BLUE, RED, SIZE, Shape, overlap, scene

MakeTracker = Callable[[], Tracker]
# Finds objects that were lost.
LEARNED: dict[str, MakeTracker] = {"nano": create_tracker}
TRAINED: dict[str, MakeTracker] = {"flow": FlowTracker} | LEARNED
# Networks with random weights, or on few pixels, keep the whole contract but the quality of masks.
MAKERS: dict[str, MakeTracker] = TRAINED | {
    "nano": lambda: SamTracker(TorchRuntime(load("nano", input_size=(160, 112)))),
    "sam": tiny_tracker,
    "sam-static": lambda: tiny_tracker("perceiver", static_shapes=True),
    "sam-samurai": lambda: tiny_tracker(policy="samurai"),
    "sam-sam2long": lambda: tiny_tracker(policy="sam2long"),
    "sam-dam4sam": lambda: tiny_tracker(policy="dam4sam"),
    "sam-after-sam": lambda: FirstMaskTracker(tiny_tracker(), ImageModelSegmenter(tiny_model())),
    "flow-after-grabcut": lambda: FirstMaskTracker(FlowTracker(), GrabCutSegmenter()),
}


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> MakeTracker:
    """Makes trackers of one kind."""
    return MAKERS[request.param]


@pytest.fixture
def tracker(make: MakeTracker) -> Tracker:
    """Any tracker."""
    return make()


@pytest.fixture(params=TRAINED)
def make_trained(request: pytest.FixtureRequest) -> MakeTracker:
    """Makes trackers whose masks are good."""
    return TRAINED[request.param]


@pytest.fixture(params=LEARNED)
def learned(request: pytest.FixtureRequest) -> Tracker:
    """A tracker that finds what it lost."""
    return LEARNED[request.param]()


@pytest.fixture
def trained(make_trained: MakeTracker) -> Tracker:
    """A tracker whose masks are good."""
    return make_trained()


RIGHT = Shape(lambda index: (40 + 2.0 * index, 50), 18, RED)
LEFT = Shape(lambda index: (125 - 2.0 * index, 85), 15, BLUE)


def track(tracker: Tracker, frames: list[Frame], prompts: dict[int, list]) -> list[FrameResult]:  # type: ignore[type-arg]
    return [tracker.step(frame, prompts.get(frame.index, ())) for frame in frames]


def same(one: FrameResult, other: FrameResult) -> bool:
    return (
        one.object_ids == other.object_ids
        and np.array_equal(one.masks, other.masks)
        and np.array_equal(one.scores, other.scores)
    )


def test_it_is_a_tracker(tracker: Tracker) -> None:
    assert isinstance(tracker, Tracker)


def test_without_an_object_there_are_no_rows(tracker: Tracker) -> None:
    frames, _ = scene(2, RIGHT)
    for result in track(tracker, frames, {}):
        assert result.object_ids == ()
        assert result.masks.shape == (0, *SIZE[::-1])


def test_objects_are_tracked_and_exclude_each_other(trained: Tracker) -> None:
    frames, truth = scene(20, RIGHT, LEFT)
    results = track(trained, frames, {0: [Mask(truth[0, 0], object_id=5), Mask(truth[0, 1], object_id=2)]})
    for index, result in enumerate(results):
        assert result.index == index
        assert result.object_ids == (2, 5)
        assert result.masks.shape == (2, *SIZE[::-1])
        assert result.present.all()
        assert ((result.scores >= 0) & (result.scores <= 1)).all()
        assert not result.masks.all(0).any()
        assert overlap(result.mask(5), truth[index, 0]) > 0.75
        assert overlap(result.mask(2), truth[index, 1]) > 0.75


@pytest.mark.parametrize("kind", ["box", "points", "box and points"])
def test_boxes_and_points(trained: Tracker, kind: str) -> None:
    frames, truth = scene(6, RIGHT)
    box, inside, outside = Box((21, 31, 59, 69), object_id=1), [(40, 50), (34, 44)], [(90, 90)]
    points = Points([*inside, *outside], [1, 1, 0], object_id=1)
    prompts = {"box": [box], "points": [points], "box and points": [box, points]}[kind]
    results = track(trained, frames, {0: prompts})
    for x, y in inside if kind != "box" else []:
        assert results[0].masks[0, y, x]
    assert overlap(results[0].masks[0], truth[0, 0]) > 0.7
    assert overlap(results[-1].masks[0], truth[5, 0]) > 0.65


def test_add_forget_and_add_again(trained: Tracker) -> None:
    frames, truth = scene(12, RIGHT, LEFT)
    first = trained.step(frames[0], [Mask(truth[0, 0])])
    assert first.object_ids == (1,)
    added = trained.step(frames[1], [Mask(truth[1, 1])])
    assert added.object_ids == (1, 2)
    for frame in frames[2:5]:
        trained.step(frame)
    trained.forget(1)
    assert trained.step(frames[5]).object_ids == (2,)
    with pytest.raises(KeyError, match="object 1 is not tracked"):
        trained.forget(1)
    again = trained.step(frames[6], [Mask(truth[6, 0])])
    assert again.object_ids == (1, 2)
    for index in range(7, 12):
        result = trained.step(frames[index])
    assert overlap(result.mask(1), truth[11, 0]) > 0.7
    assert overlap(result.mask(2), truth[11, 1]) > 0.7


def test_a_correction_moves_one_object_only(make_trained: MakeTracker) -> None:
    frames, truth = scene(8, RIGHT, LEFT)
    wrong = np.zeros_like(truth[0, 0])
    wrong[2:20, 130:150] = True  # a patch of ground
    plain, corrected = make_trained(), make_trained()
    for index in range(8):
        start = [Mask(wrong, object_id=1), Mask(truth[0, 1], object_id=2)] if index == 0 else []
        before = plain.step(frames[index], start)
        fix = [Mask(truth[4, 0], object_id=1)] if index == 4 else start
        after = corrected.step(frames[index], fix)
        assert overlap(after.mask(2), before.mask(2)) > 0.9
    assert overlap(after.mask(1), truth[7, 0]) > 0.7
    assert overlap(before.mask(1), truth[7, 0]) < 0.2


@pytest.mark.parametrize(
    "prompts",
    [
        [Box((300, 300, 310, 310))],
        [Points([(500, 10)])],
        [Mask(np.ones((3, 3), bool))],
        [Mask(np.ones(SIZE[::-1], bool), object_id=1), Box((1, 1, 9, 9), object_id=1)],
        [Box((1, 1, 9, 9), object_id=1), Box((1, 1, 19, 19), object_id=1)],
        [Box((1, 1, 9, 9)), Box((300, 300, 310, 310))],
    ],
)
def test_a_bad_prompt_changes_nothing(tracker: Tracker, make: MakeTracker, prompts: list) -> None:  # type: ignore[type-arg]
    frames, truth = scene(3, RIGHT)
    undisturbed = make()
    for each in (tracker, undisturbed):
        each.step(frames[0], [Mask(truth[0, 0])])
    with pytest.raises(PromptError):
        tracker.step(frames[1], prompts)
    for frame in frames[1:]:
        assert same(tracker.step(frame), undisturbed.step(frame))


def test_a_frame_of_another_size_is_refused(tracker: Tracker) -> None:
    frames, truth = scene(2, RIGHT)
    tracker.step(frames[0], [Mask(truth[0, 0])])
    with pytest.raises(VideoError, match="160x120"):
        tracker.step(Frame(1, 0.04, frames[1].rgb[:100]))


def test_nothing_leaks_through_reset(tracker: Tracker, make: MakeTracker) -> None:
    frames, truth = scene(4, RIGHT)
    others, other_truth = scene(4, LEFT)
    track(tracker, others, {0: [Mask(other_truth[0, 0])]})
    tracker.reset()
    fresh = make()
    for index, frame in enumerate(frames):
        prompts = [] if index else [Mask(truth[0, 0])]
        assert same(tracker.step(frame, prompts), fresh.step(frame, prompts))


def test_an_empty_mask_stays_empty(trained: Tracker) -> None:
    frames, _ = scene(3, RIGHT)
    results = track(trained, frames, {0: [Mask(np.zeros(SIZE[::-1], bool))]})
    assert not any(result.present.any() or result.masks.any() for result in results)


def test_frames_of_one_pixel(tracker: Tracker) -> None:
    for index in range(3):
        dot = Frame(index, 0.0, np.full((1, 1, 3), 90, np.uint8))
        result = tracker.step(dot, [] if index else [Box((0, 0, 1, 1))])
        assert result.masks.shape == (1, 1, 1)


def test_objects_are_added_forgotten_and_added_again(tracker: Tracker) -> None:
    frames, truth = scene(5, RIGHT, LEFT)
    assert tracker.step(frames[0], [Mask(truth[0, 0], object_id=4)]).object_ids == (4,)
    assert tracker.step(frames[1], [Box((100, 60, 140, 110))]).object_ids == (1, 4)
    tracker.forget(4)
    assert tracker.step(frames[2]).object_ids == (1,)
    with pytest.raises(KeyError, match="object 4 is not tracked"):
        tracker.forget(4)
    again = tracker.step(frames[3], [Mask(truth[3, 0], object_id=4)])
    assert again.object_ids == (1, 4)
    assert np.array_equal(again.mask(4), truth[3, 0]), "a given mask is the result"
    assert tracker.step(frames[4]).masks.shape == (2, *SIZE[::-1])


def test_a_frame_with_the_same_index_is_the_same_frame(make: MakeTracker) -> None:
    """No time passes: an object without a prompt keeps its mask, and what follows is as if nothing had happened."""
    frames, truth = scene(6, RIGHT, LEFT)
    once, twice = make(), make()
    start = [Mask(truth[0, 0], object_id=1), Mask(truth[0, 1], object_id=2)]
    for index in range(6):
        prompts = [] if index else start
        expected, found = once.step(frames[index], prompts), twice.step(frames[index], prompts)
        assert same(expected, found)
        assert same(twice.step(frames[index]), expected)
        assert same(twice.step(frames[index]), expected)


def test_prompts_on_the_same_frame_in_turn(make: MakeTracker) -> None:
    """Objects given one after the other on a frame are all there, also with the upcoming frame known."""
    frames, truth = scene(4, RIGHT, LEFT)
    tracker = make()
    first = tracker.step(frames[0], [Box((21, 31, 59, 69), object_id=1)], upcoming=frames[1])
    both = tracker.step(frames[0], [Mask(truth[0, 1], object_id=2)], upcoming=frames[1])
    assert both.object_ids == (1, 2)
    assert np.array_equal(both.mask(1) & ~truth[0, 1], first.mask(1) & ~truth[0, 1])
    assert np.array_equal(both.mask(2), truth[0, 1])
    assert tracker.step(frames[1]).object_ids == (1, 2)


def test_the_upcoming_frame_changes_nothing_without_prompts(make: MakeTracker) -> None:
    frames, truth = scene(5, RIGHT)
    shown, hidden = make(), make()
    assert shown.lookahead in (0, 1)
    for index in range(4):
        prompts = [] if index else [Mask(truth[0, 0])]
        assert same(
            shown.step(frames[index], prompts, upcoming=frames[index + 1]), hidden.step(frames[index], prompts)
        )


def test_a_restored_tracker_continues_with_identical_results(make: MakeTracker) -> None:
    """Step, save, restore in another tracker, step; also on the same frame again."""
    frames, truth = scene(9, RIGHT, LEFT)
    unbroken, broken = make(), make()
    for index in range(9):
        prompts = {0: [Mask(truth[0, 0], object_id=3)], 5: [Box((100, 60, 140, 110))]}.get(index, [])
        expected = unbroken.step(frames[index], prompts)
        assert same(broken.step(frames[index], prompts), expected)
        if index in (0, 4, 5):
            saved = broken.state()
            broken = make()
            broken.restore(saved)
            assert same(broken.step(frames[index]), expected)
    fresh = make()
    fresh.step(frames[0], [Mask(truth[0, 1])])
    fresh.restore(make().state())
    assert fresh.step(frames[0]).object_ids == ()


def test_a_state_of_something_else_is_refused(make: MakeTracker) -> None:
    frames, truth = scene(2, RIGHT)
    tracker, undisturbed = make(), make()
    for each in (tracker, undisturbed):
        each.step(frames[0], [Mask(truth[0, 0])])
    whole = tracker.state()
    other = (FlowTracker() if not isinstance(tracker, FlowTracker) else tiny_tracker()).state()
    for damaged in (b"", b"\x80\x04garbage", other, whole[: len(whole) // 2], whole[:40] + b"x" + whole[60:]):
        with pytest.raises(ConfigError, match="state"):
            tracker.restore(damaged)
    assert same(tracker.step(frames[1]), undisturbed.step(frames[1]))


def test_an_object_that_leaves_is_reported_and_found_again(learned: Tracker) -> None:
    def place(index: int) -> tuple[float, float] | None:
        return None if 14 <= index < 30 else (100 + 6.0 * index, 60) if index < 14 else (40, 40 + index - 30.0)

    frames, truth = scene(40, Shape(place, 16, RED))
    results = track(learned, frames, {0: [Mask(truth[0, 0])]})
    away = [result for result in results if not truth[result.index, 0].any()]
    assert sum(result.present[0] for result in away) <= 3
    assert not any(result.masks[~result.present].any() for result in results)
    assert results[-1].present[0]
    assert overlap(results[-1].masks[0], truth[-1, 0]) > 0.6


def test_an_object_behind_another_comes_back(learned: Tracker) -> None:
    still = Shape(lambda index: (80, 60), 12, RED)
    passing = Shape(lambda index: (20 + 4.0 * index, 60), 26, BLUE)
    frames, truth = scene(32, still, passing)
    results = track(learned, frames, {0: [Mask(truth[0, 0]), Mask(truth[0, 1])]})
    assert any(not result.present[0] for result in results)
    assert overlap(results[-1].masks[0], truth[-1, 0]) > 0.6


def test_state_is_bounded(tracker: Tracker) -> None:
    frames, truth = scene(40, RIGHT, LEFT)
    sizes = {}
    for index in range(71):
        frame = Frame(index, index / 25, frames[39 - abs(39 - index % 78)].rgb)
        tracker.step(frame, [] if index else [Mask(truth[0, 0]), Mask(truth[0, 1])])
        if index in (30, 70):
            sizes[index] = len(tracker.state())
    assert sizes[70] <= 1.05 * sizes[30]


@pytest.mark.long
def test_memory_is_bounded(tracker: Tracker) -> None:
    frames, truth = scene(40, RIGHT, LEFT)
    process, resident = psutil.Process(), {}
    for index in range(2001):
        frame = Frame(index, index / 25, frames[39 - abs(39 - index % 78)].rgb)
        tracker.step(frame, [] if index else [Mask(truth[0, 0]), Mask(truth[0, 1])])
        if index in (200, 2000):
            resident[index] = process.memory_info().rss
    assert resident[2000] < 1.05 * resident[200]
