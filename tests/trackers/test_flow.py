"""The tracker without weights: sizes of frames at which there is little to match, and its scores."""

import numpy as np
import pytest

from samvideo.trackers.flow import FlowConfig, FlowTracker
from samvideo.types import Frame, Mask
from tests.scenes import RED, Shape, overlap, scene


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (16, 200), (33, 17), (16, 16)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    tracker = FlowTracker()
    for index in range(3):
        rgb = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
        mask = np.zeros(size[::-1], bool)
        mask[: size[1] // 2 + 1, : size[0] // 2 + 1] = True
        result = tracker.step(Frame(index, index / 25, rgb), [] if index else [Mask(mask)])
        assert result.masks.shape == (1, size[1], size[0])
        assert 0 <= result.scores[0] <= 1


def test_the_working_size_is_a_setting() -> None:
    frames, truth = scene(8, Shape(lambda index: (50 + 2.0 * index, 55), 20, RED))
    for longest in (80, 160):
        tracker = FlowTracker(FlowConfig(longest=longest))
        masks = [tracker.step(f, [] if f.index else [Mask(truth[0, 0])]).masks[0] for f in frames]
        assert overlap(masks[-1], truth[-1, 0]) > 0.85


def test_what_loses_its_contrast_is_scored_lower() -> None:
    frames, truth = scene(4, Shape(lambda index: (50, 55), 20, RED))
    tracker = FlowTracker()
    sharp = [tracker.step(f, [] if f.index else [Mask(truth[0, 0])]).scores[0] for f in frames]
    grey = Frame(4, 0.2, np.full_like(frames[0].rgb, 90))
    assert tracker.step(grey).scores[0] < min(sharp)
    empty = FlowTracker()
    assert empty.step(frames[0], [Mask(np.zeros_like(truth[0, 0]))]).scores[0] == 0
