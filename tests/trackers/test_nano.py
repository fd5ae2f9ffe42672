"""The bundled tracker: its file, its crops, what it makes of prompts, and what it says of objects that go away."""

import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from samvideo.cues.crop import Window
from samvideo.cues.patch import Patch
from samvideo.errors import WeightsError
from samvideo.nano.prompted import NO, YES, mask_of
from samvideo.nano.runtime import BUNDLED, Networks, load
from samvideo.trackers.factory import create_tracker
from samvideo.trackers.nano import NanoTarget, NanoTracker
from samvideo.types import Box, FloatArray, Frame, Mask, Points
from tests.scenes import BLUE, RED, Shape, overlap, scene

DISC = Shape(lambda index: (50 + 2.0 * index, 55), 20, RED)


def test_the_bundle_is_small_and_whole() -> None:
    assert BUNDLED.stat().st_size <= 5e6
    networks = load()
    assert load() is networks
    assert sum(p.numel() for n in (networks.fusion, networks.prompted) for p in n.parameters()) < 1e6


@pytest.mark.parametrize("content", [None, b"", b"not safetensors"])
def test_a_bad_file_of_weights_is_told(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"own\.safetensors"):
        create_tracker("nano", weights=path)


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"fusion.other": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="does not hold nano's weights"):
        NanoTracker(tmp_path / "other.safetensors")


def test_it_never_touches_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("nano opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    frames, truth = scene(2, DISC)
    tracker = create_tracker("nano")
    tracker.step(frames[0], [Mask(truth[0, 0])])
    assert tracker.step(frames[1]).present.all()


class Blind(Networks):
    """Networks that see no object anywhere, but are sure that it is there."""

    def __init__(self) -> None:
        pass

    def segment(self, planes: FloatArray, memories: list[Tensor]) -> tuple[FloatArray, float, float]:
        return np.full(planes.shape[1:], -8.0, np.float32), 4.0, 2.0

    def remember(self, planes: FloatArray, belief: FloatArray) -> Tensor:
        return torch.zeros(1)


def test_a_network_that_does_not_find_a_given_mask_is_not_heard() -> None:
    frames, truth = scene(8, DISC)
    tracker = NanoTracker(Blind())
    tracker.step(frames[0], [Mask(truth[0, 0])])
    last = [tracker.step(frame).masks[0] for frame in frames[1:]][-1]
    assert overlap(last, truth[-1, 0]) > 0.8


@pytest.mark.parametrize("loose", [0, 3])
def test_a_box_becomes_the_mask_of_what_it_holds(loose: int) -> None:
    frames, truth = scene(1, DISC)
    box = (30 - loose, 35 - loose, 70 + loose, 75 + loose)
    mask = NanoTracker().step(frames[0], [Box(box)]).mask(1)
    assert overlap(mask, truth[0, 0]) > 0.85


def test_nothing_outside_of_a_box_is_taken_whatever_was_clicked() -> None:
    rgb = scene(1, DISC)[0][0].rgb.repeat(12, 0).repeat(12, 1)
    clicks = np.array([[599.5, 660.0], [360.5, 660.0]], np.float32)  # on the disc, at both sides of the box
    box, none = (360.0, 420.0, 600.0, 900.0), np.zeros(rgb.shape[:2], bool)
    mask = mask_of(load(), rgb, box, clicks, np.ones(2, np.int64), none)
    assert mask.any()
    assert not mask[:, 600:].any()
    assert not mask[:, :360].any()


class Watching(Networks):
    """Networks that keep what they are shown, and see nothing."""

    def __init__(self) -> None:
        self.shown: list[Tensor] = []

    def draw(self, planes: Tensor) -> Tensor:
        self.shown.append(planes)
        return torch.full((len(planes), *planes.shape[2:]), -8.0)


def test_clicks_far_apart_are_all_in_every_window() -> None:
    rgb, networks = scene(1, DISC)[0][0].rgb, Watching()
    clicks = np.array([[4.5, 4.5], [rgb.shape[1] - 4.5, rgb.shape[0] - 4.5]], np.float32)
    mask_of(networks, rgb, None, clicks, np.array([1, 0]), np.zeros(rgb.shape[:2], bool))
    assert networks.shown
    assert all(planes[0, plane].max() > 0.9 for planes in networks.shown for plane in (YES, NO))


def test_clicks_always_apply_and_correct_a_mask() -> None:
    frames, truth = scene(1, DISC, Shape(lambda index: (110, 80), 16, BLUE))
    tracker = NanoTracker()
    first = tracker.step(frames[0], [Points([(50, 55)], [1])]).mask(1)
    assert first[55, 50]
    corrected = tracker.step(frames[0], [Points([(50, 55), (110, 80)], [1, 0], object_id=1)]).mask(1)
    assert corrected[55, 50]
    assert not corrected[80, 110]
    assert overlap(corrected, truth[0, 0]) >= overlap(first, truth[0, 0]) - 0.1


@pytest.mark.parametrize(
    "prompt", [Box((0.2, 0.2, 1.4, 1.1)), Box((0, 0, 160, 120)), Points([(159.9, 119.9)], [1])]
)
def test_prompts_at_the_edges_of_what_can_be_said(prompt: Box | Points) -> None:
    frames, _ = scene(2, DISC)
    tracker = NanoTracker()
    assert tracker.step(frames[0], [prompt]).mask(1).any()
    tracker.step(frames[1])


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (16, 200), (33, 17)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    tracker = NanoTracker()
    for index in range(3):
        rgb = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
        mask = np.zeros(size[::-1], bool)
        mask[: size[1] // 2 + 1, : size[0] // 2 + 1] = True
        result = tracker.step(Frame(index, index / 25, rgb), [] if index else [Mask(mask)])
        assert result.masks.shape == (1, size[1], size[0])


def test_an_object_that_goes_away_is_reported_and_found_again() -> None:
    away = range(8, 16)
    shape = Shape(lambda index: None if index in away else (50 + 2.0 * index, 55), 20, RED)
    frames, truth = scene(24, shape)
    tracker = NanoTracker()
    results = [tracker.step(f, [] if f.index else [Mask(truth[0, 0])]) for f in frames]
    assert all(results[k].present[0] for k in range(8))
    assert not any(results[k].present[0] for k in range(11, 16))
    assert results[-1].present[0]
    assert overlap(results[-1].masks[0], truth[-1, 0]) > 0.7


@pytest.mark.parametrize(
    ("share", "alike", "presence", "speed", "present"),
    [
        (0.1, 0.8, 1.5, 5.0, False),  # a remnant
        (0.1, 0.9, 1.5, 5.0, True),
        (0.1, 0.8, 3.0, 5.0, True),
        (0.5, 0.8, 1.5, 5.0, True),
        (0.5, 0.8, 1.5, 0.5, False),  # what is left has stopped
        (0.5, 0.9, 1.5, 0.5, True),
        (0.5, 0.8, 3.0, 0.5, True),
        (0.8, 0.8, 1.5, 0.5, True),
        (1.8, 0.8, 1.5, 5.0, False),  # it has spread
        (1.8, 0.8, 5.0, 5.0, True),
        (1.3, 0.8, 1.5, 5.0, True),
        (2.5, 0.8, 5.0, 5.0, False),  # something large came before it
        (2.5, 0.9, 5.0, 5.0, True),
    ],
)
def test_what_is_unlike_the_object_and_not_of_its_size_is_not_it(
    share: float, alike: float, presence: float, speed: float, present: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, truth = scene(2, DISC)
    tracker = NanoTracker()
    tracker.step(frames[0], [Mask(truth[0, 0])])
    tracker.step(frames[1])
    target, shown = tracker._targets[1], tracker._scene
    assert isinstance(target, NanoTarget)
    assert shown is not None
    inside_first = np.argsort(~truth[1, 0].ravel(), kind="stable")
    target.belief = np.zeros_like(target.belief)
    target.belief.ravel()[inside_first[: int(share * truth[1, 0].sum())]] = 1
    target.presence, target._usually = presence, 0.95
    target._speed, target._usual_speed = speed, 6.0
    monkeypatch.setattr(target._likeness, "of", lambda *_: alike)
    target._judge(shown)
    assert target.present == present


def partly_hidden() -> tuple[NanoTracker, NanoTarget, list[Frame], np.ndarray]:
    """A disc that has been followed for six frames, of which but a tenth is believed to be in view."""
    frames, truth = scene(7, DISC)
    tracker = NanoTracker()
    for frame in frames[:6]:
        tracker.step(frame, [] if frame.index else [Mask(truth[0, 0])])
    target = tracker._targets[1]
    assert isinstance(target, NanoTarget)
    columns = np.cumsum((target.belief > 0.5).sum(0))
    target.belief[:, columns > 0.1 * columns[-1]] = 0
    return tracker, target, frames, truth


def test_the_rest_of_an_object_that_was_half_hidden_is_found_at_once() -> None:
    tracker, _, frames, truth = partly_hidden()
    assert overlap(tracker.step(frames[6]).masks[0], truth[6, 0]) > 0.9


def test_what_the_network_likes_less_than_what_is_near_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker, target, frames, truth = partly_hidden()

    def elsewhere(shown: object) -> Patch:
        target.presence, target.quality, target._reach = 9.0, -9.0, np.inf
        return Patch((0, 0, 1, 1), np.full((2, 2), np.float32(8)))

    monkeypatch.setattr(target, "_search", elsewhere)
    mask = tracker.step(frames[6]).masks[0]
    assert mask.any()
    assert not (mask & ~truth[6, 0]).any()
    assert target.quality > -9
    assert target._reach == 0


SHAPES = st.tuples(st.integers(8, 90), st.integers(8, 90))


@given(SHAPES, st.integers(-40, 90), st.integers(-40, 90), st.integers(8, 120))
def test_what_a_window_cuts_out_goes_back_to_its_place(shape: tuple[int, int], x: int, y: int, side: int) -> None:
    picture = np.fromfunction(lambda r, c: (r / 90 + c / 90) / 2, shape, dtype=np.float32).astype(np.float32)
    window = Window(x, y, side, shape)
    region, back = window.patch(window.cut(picture, 96)).onto(shape)
    assert back.shape == picture[region].shape
    inner = back[3:-3, 3:-3]
    if inner.size:
        assert np.abs(inner - picture[region][3:-3, 3:-3]).max() < 0.06


@given(SHAPES, st.data())
def test_a_patch_of_whole_pixels_is_put_back_unchanged(shape: tuple[int, int], data: st.DataObject) -> None:
    height, width = shape
    top, left = data.draw(st.integers(0, height - 2)), data.draw(st.integers(0, width - 2))
    bottom, right = data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width))
    logits = np.random.default_rng(0).normal(size=(bottom - top, right - left)).astype(np.float32)
    region = slice(top, bottom), slice(left, right)
    where, back = Patch.of(region, logits, shape).onto(shape)
    assert where == region
    np.testing.assert_allclose(back, logits, atol=1e-3)
