"""Each kind of evidence on pictures whose answer is plain."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samvideo.cues.barrier import FAR, barrier
from samvideo.cues.classifier import Perceptron, Samples
from samvideo.cues.colour import Codebook, GlobalColour, colour_bins, local_colour_logits
from samvideo.cues.grabcut import box_to_mask, clicks_to_mask
from samvideo.cues.motion import motion_logits, own_speed
from samvideo.cues.redetection import Likeness, PresenceConfig, find_again
from samvideo.cues.smoothing import SmoothingConfig, neighbour_weights, smooth
from samvideo.cues.target import Evidence, Scene, Target, TargetConfig
from samvideo.cues.view import FEATURES, View
from samvideo.cues.warp import DenseFlow, consistency, sources, warp
from samvideo.trackers.flow import FlowConfig, FlowTracker
from samvideo.types import FloatArray, Frame, Mask
from tests.scenes import BLUE, RED, Shape, overlap, scene

DISC = Shape(lambda index: (60 + 3.0 * index, 50), 18, RED)


@pytest.fixture
def pair() -> tuple[View, View, np.ndarray, np.ndarray]:
    frames, truth = scene(2, DISC)
    return View(frames[0].rgb, 160), View(frames[1].rgb, 160), truth[0, 0], truth[1, 0]


@pytest.mark.parametrize("smooth", [False, True])
def test_flow_carries_a_mask_and_is_trusted(pair: tuple[View, View, np.ndarray, np.ndarray], smooth: bool) -> None:
    before, now, old, new = pair
    flow = DenseFlow(smooth=smooth).between(before.gray, now.gray)
    places = sources(flow.backward)
    carried = warp(old.astype(np.float32), places) > 0.5
    assert overlap(carried, new) > 0.85 > overlap(old, new)
    trust = consistency(flow, places, before.lab, now.lab)
    assert 0 <= trust.min() <= trust.max() <= 1
    assert trust[new].mean() > 0.7
    assert consistency(flow, places, before.lab + 100, now.lab).max() < 0.01


def test_flow_is_finer_or_smoother(pair: tuple[View, View, np.ndarray, np.ndarray]) -> None:
    before, now, _, _ = pair
    fine, smooth = (DenseFlow(smooth=s).between(before.gray, now.gray).backward for s in (False, True))
    assert np.abs(np.diff(smooth, axis=1)).max() < np.abs(np.diff(fine, axis=1)).max()


def test_flow_of_pictures_too_small_to_match_is_none() -> None:
    dots = np.zeros((3, 5), np.uint8)
    assert not DenseFlow().between(dots, dots + 9).backward.any()


def test_view_is_bounded_and_keeps_aspect() -> None:
    view = View(np.zeros((480, 854, 3), np.uint8), 427)
    assert view.shape == (240, 427)
    assert view.features.shape == (FEATURES, 240, 427)
    assert np.isfinite(view.features).all()


def test_global_colour_tells_the_object(pair: tuple[View, View, np.ndarray, np.ndarray]) -> None:
    before, now, old, new = pair
    colour = GlobalColour()
    inside = old.astype(np.float32)
    colour.learn(colour_bins(before.levels), inside, 1 - inside)
    logits = colour.logits(colour_bins(now.levels))
    assert overlap(logits > 0, new) > 0.9
    assert np.abs(logits).max() <= 3


def test_running_colour_follows_what_keep_leaves() -> None:
    bins = np.zeros((2, 2), np.int32)
    bins[0] = 100
    top = np.array([[1, 1], [0, 0]], np.float32)
    steady, moving = GlobalColour(keep=1.0), GlobalColour(keep=0.0, rate=0.5)
    for colour in (steady, moving):
        colour.learn(bins, top, 1 - top)
        colour.follow(bins, 1 - top, top)
        colour.follow(bins, 1 - top, top)
    assert steady.logits(bins)[0, 0] > 0 > moving.logits(bins)[0, 0]


def test_local_colour_only_counts_what_was_near() -> None:
    words = np.zeros((60, 160), np.uint8)
    words[:, 20:40] = words[:, 120:140] = 1  # two stripes of one colour, of which the left is the object
    carried = np.zeros((60, 160), np.float32)
    carried[:, 20:40] = 1
    logits = local_colour_logits(words, words, carried, window=11)
    assert logits[30, 30] > 1
    assert logits[30, 130] < -1
    assert logits[30, 80] < -1


def test_codebook_gives_every_pixel_its_nearest_word() -> None:
    samples = np.repeat(np.array([[20, 20, 20], [120, 120, 120], [220, 220, 220]], np.float32), 50, 0)
    book = Codebook(samples, words=3)
    words = book.assign(np.array([[[22, 20, 20], [119, 120, 121], [210, 220, 230]]], np.uint8))
    assert book.size == 3
    assert len(set(words.ravel().tolist())) == 3
    assert Codebook(samples[:50], words=64).size == 1


def test_the_speed_of_an_object_is_what_it_has_against_the_rest() -> None:
    flow = np.full((40, 60, 2), (5.0, 0.0), np.float32)
    belief = np.zeros((40, 60), np.float32)
    assert own_speed(flow, belief) == 0
    belief[9:11, 9:11] = 0.9
    assert own_speed(flow, belief) == 0
    flow[9:11, 9:11] = 8, -4
    assert own_speed(flow, belief) == pytest.approx(5)
    assert own_speed(flow, np.ones_like(belief)) == 0


def test_motion_tells_what_moves_apart() -> None:
    flow = np.zeros((60, 80, 2), np.float32)
    flow[20:40, 30:50] = (4, 0)
    prior = np.zeros((60, 80), np.float32)
    prior[20:40, 30:42] = 1  # part of what moves
    logits = motion_logits(flow, prior)
    assert logits[30, 46] > 0.5
    assert logits[10, 10] < -0.5
    assert np.abs(motion_logits(np.zeros_like(flow), prior)).max() < 0.5


def test_the_classifier_learns_what_is_not_linear() -> None:
    rng = np.random.default_rng(0)
    columns = rng.uniform(-1, 1, (3, 2000)).astype(np.float32)
    targets = (columns[0] * columns[1] > 0).astype(np.float32)
    network = Perceptron(3, 16, 1e-2, rng)
    for _ in range(300):
        network.train(columns, targets)
    assert ((network.logits(columns) > 0) == targets).mean() > 0.95


def test_samples_are_bounded_and_the_oldest_go() -> None:
    store = Samples(1, 4)
    rng = np.random.default_rng(0)
    assert store.draw(5, rng)[0].shape == (1, 0)
    for value in range(6):
        store.add(np.full((1, 1), value, np.float32), np.ones(1, np.float32))
    assert store.count == 4
    assert set(store.draw(200, rng)[0].ravel()) == {2, 3, 4, 5}


def test_smoothing_follows_edges() -> None:
    lab = np.full((20, 40, 3), 50, np.float32)
    lab[:, 20:] = 150
    unary = np.where(np.arange(40) < 20, 1.0, -1.0) * np.ones((20, 1))
    noisy = unary.astype(np.float32)
    noisy[5, 5] = noisy[12, 30] = 0
    noisy[5, 5] -= 2
    config = SmoothingConfig()
    smoothed = smooth(noisy, neighbour_weights(lab, config), config.steps)
    assert ((smoothed > 0) == (unary > 0)).all()
    assert np.array_equal(smooth(noisy, neighbour_weights(lab, replace(config, strength=0.0)), 5), noisy)


def test_prompts_become_masks() -> None:
    frames, truth = scene(1, DISC, Shape(lambda index: (120, 80), 14, BLUE))
    rgb = frames[0].rgb
    nothing = np.zeros((0, 2), np.float32), np.zeros(0, np.int64)
    assert overlap(box_to_mask(rgb, (40, 30, 80, 70), *nothing), truth[0, 0]) > 0.9
    click = np.array([[60, 50]], np.float32), np.ones(1, np.int64)
    mask = clicks_to_mask(rgb, *click, np.zeros(rgb.shape[:2], bool))
    assert overlap(mask, truth[0, 0]) > 0.8
    away = np.array([[120, 80]], np.float32), np.zeros(1, np.int64)
    both = truth[0].any(0)
    corrected = clicks_to_mask(rgb, np.concatenate([click[0], away[0]]), np.array([1, 0]), both)
    assert not corrected[80, 120]
    assert overlap(corrected, truth[0, 0]) > 0.8


def test_a_lost_object_is_found_where_it_looks_like_itself() -> None:
    frames, truth = scene(2, Shape(lambda index: ((40, 50), (115, 80))[index], 18, RED), LURE)
    views = [View(frame.rgb, 160) for frame in frames]
    colour, likeness = GlobalColour(), Likeness(0.05)
    inside = truth[0, 0].astype(np.float32)
    colour.learn(colour_bins(views[0].levels), inside, 1 - inside)
    likeness.learn(views[0].levels, truth[0, 0])
    odds = colour.logits(colour_bins(views[1].levels))
    anywhere = np.ones_like(truth[1, 0])
    found = find_again(odds, views[1].levels, likeness, float(inside.sum()), anywhere, PresenceConfig())
    assert found is not None
    assert overlap(found, truth[1, 0]) > 0.8
    hidden = np.where(truth[1, 0], np.float32(-3), odds)
    assert find_again(hidden, views[1].levels, likeness, float(inside.sum()), anywhere, PresenceConfig()) is None
    assert find_again(odds, views[1].levels, likeness, 1e6, anywhere, PresenceConfig()) is None
    area, near = float(inside.sum()), truth[0, 0]  # it cannot have come so far yet
    assert find_again(odds, views[1].levels, likeness, area, near, PresenceConfig()) is None


LURE = Shape(lambda index: (60, 95), 14, BLUE)


UNSMOOTHED = SmoothingConfig(steps=0)
WEIGHTS = {
    "warp": "history",
    "global_colour": "colour",
    "local_colour": "local_colour",
    "classifier": "learned",
    "motion": "motion",
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_each_kind_of_evidence_counts_by_its_weight(name: str) -> None:
    config = TargetConfig(smoothing=UNSMOOTHED)
    planes = np.random.default_rng(0).normal(size=(5, 6, 8)).astype(np.float32)
    evidence = Evidence(*planes)
    lab = np.zeros((6, 8, 3), np.float32)
    logits = Target(config).weigh(evidence, lab)
    more = Target(replace(config, **{name: getattr(config, name) + 0.5})).weigh(evidence, lab)
    np.testing.assert_allclose(more - logits, 0.5 * getattr(evidence, WEIGHTS[name]), atol=1e-5)


def test_the_bias_shifts_and_the_smoothing_smooths() -> None:
    evidence = Evidence(*np.random.default_rng(0).normal(size=(5, 20, 20)).astype(np.float32))
    lab = np.zeros((20, 20, 3), np.float32)
    config = TargetConfig(smoothing=UNSMOOTHED)
    logits = Target(config).weigh(evidence, lab)
    shifted = Target(replace(config, bias=config.bias + 1)).weigh(evidence, lab)
    np.testing.assert_allclose(shifted - logits, 1, atol=1e-5)
    signs = [Target(replace(config, smoothing=s)).weigh(evidence, lab) > 0 for s in (UNSMOOTHED, SmoothingConfig())]
    changes = [np.count_nonzero(np.diff(sign, axis=1)) for sign in signs]
    assert changes[1] < 0.5 * changes[0]


@pytest.mark.parametrize("change", [{"steps": 1}, {"strength": 0.2}, {"contrast": 1.0}, {"reach": (1,)}])
def test_less_smoothing_leaves_more_noise(change: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    lab = (100 + rng.normal(scale=3, size=(30, 30, 3))).astype(np.float32)
    noise = rng.normal(size=(30, 30)).astype(np.float32)
    configs = SmoothingConfig(), replace(SmoothingConfig(), **change)
    full, less = (smooth(noise, neighbour_weights(lab, config), config.steps) for config in configs)
    assert np.count_nonzero(np.diff(less > 0, axis=1)) > np.count_nonzero(np.diff(full > 0, axis=1))


QUICK = TargetConfig(start_steps=20, frame_steps=1, hidden=16, batch=200, stored=400)


def learned(config: TargetConfig, frames: int = 1) -> tuple[float, FloatArray, FloatArray]:
    """Margin of the classifier between the disc and the rest after `frames` frames; its logits, the colours'."""
    pictures, truth = scene(2, DISC)
    views = [View(frame.rgb, 160) for frame in pictures]
    scenes = [Scene(view, colour_bins(view.levels), np.zeros(view.shape, np.uint8)) for view in views]
    target = Target(config)
    target.teach(scenes[0], truth[0, 0].astype(np.float32))
    for _ in range(frames - 1):
        target.looks_like(scenes[1])
        target.follow(scenes[1], truth[1, 0].astype(np.float32))
    colour, logits = target.looks_like(scenes[0])
    inside = truth[0, 0]
    target._pause()
    return float(logits[inside].mean() - logits[~inside].mean()), logits, colour


@pytest.mark.parametrize(
    ("name", "little", "much", "frames"),
    [("start_steps", 2, 20, 1), ("rate", 3e-4, 3e-3, 1), ("hidden", 1, 32, 1), ("frame_steps", 0, 20, 2)],
)
def test_more_training_separates_the_object_better(name: str, little: float, much: float, frames: int) -> None:
    margins = [learned(replace(QUICK, **{name: value}), frames)[0] for value in (little, much)]  # type: ignore[arg-type]
    assert margins[1] > margins[0] + 0.2


@pytest.mark.parametrize(("name", "value"), [("batch", 50), ("stored", 50), ("placeless", 1.0)])
def test_the_choice_of_samples_reaches_the_classifier(name: str, value: float) -> None:
    assert not np.array_equal(learned(QUICK)[1], learned(replace(QUICK, **{name: value}))[1])  # type: ignore[arg-type]


def test_colours_of_the_prompt_alone_are_kept_or_those_seen_later_too() -> None:
    first, kept, running = (learned(replace(QUICK, keep=keep), n)[2] for keep, n in ((0.0, 1), (1.0, 3), (0.0, 3)))
    np.testing.assert_array_equal(kept, first)
    assert not np.array_equal(running, first)


@pytest.mark.parametrize(("lose", "present"), [(0.5, True), (1.1, False)])
def test_an_object_is_lost_where_its_likeness_falls_below(lose: float, present: bool) -> None:
    frames, truth = scene(1, DISC)
    config = replace(QUICK, start_steps=1, presence=PresenceConfig(lose=lose))
    tracker = FlowTracker(FlowConfig(longest=96, target=config))
    tracker.step(frames[0], [Mask(truth[0, 0])])
    assert tracker.step(Frame(1, 0.04, frames[0].rgb)).present[0] == present


@pytest.mark.parametrize("change", [{"longest": 96}, {"stride": 7}, {"words": 2}])
def test_the_settings_of_the_tracker_reach_its_parts(change: dict[str, int]) -> None:
    frames, truth = scene(2, DISC)
    plain = FlowConfig(longest=160, target=replace(QUICK, start_steps=1, frame_steps=0))
    beliefs = []
    for config in (plain, replace(plain, **change)):
        tracker = FlowTracker(config)
        tracker.step(frames[0], [Mask(truth[0, 0])])
        tracker.step(frames[1])
        beliefs.append(tracker._targets[1].belief)
    assert not np.array_equal(*beliefs)


def test_what_goes_on_beyond_a_border_is_near_and_what_is_walled_in_is_not() -> None:
    picture = np.full((1, 3, 24, 32), 100, np.uint8)
    picture[:, :, ::2] += 6  # texture, which a path crosses without end
    picture[:, 0, 8:17, 10:23] = 180
    picture[:, 0, 10:15, 12:21] = 100  # a room of the outside's colour
    seeds = np.zeros((1, 24, 32), bool)
    seeds[:, :, 0] = True
    walled = barrier(picture, seeds)[0]
    assert not walled[seeds[0]].any()
    assert walled[:, 31].max() <= 18
    assert walled[9, 16] >= 70
    assert walled[12, 16] >= 70
    picture[:, 0, 12, 21:23] = 100  # a door
    assert barrier(picture, seeds)[0, 12, 16] <= 18


@given(st.integers(0, 2**32 - 1))
def test_barriers_are_those_of_each_picture_and_no_less_than_the_nearest_colour(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (2, 3, 6, 7)).astype(np.uint8)
    seeds = rng.random((2, 6, 7)) < 0.1
    both = barrier(pictures, seeds)
    for picture, start, found in zip(pictures, seeds, both, strict=True):
        np.testing.assert_array_equal(barrier(picture[None], start[None])[0], found)
        if not start.any():
            assert (found == FAR).all()
            continue
        apart = np.abs(picture.astype(int)[:, :, :, None] - picture[:, None, None, start]).sum(0).min(2)
        assert (found >= apart).all()
        assert not found[start].any()
