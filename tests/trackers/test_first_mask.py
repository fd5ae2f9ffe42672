"""Any segmenter before any tracker; the contract suite runs over it too."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from samvideo.errors import ConfigError, PromptError
from samvideo.object_prompts import ObjectPrompt
from samvideo.segmenters.base import EmbeddedImage, Previous, Segmentation
from samvideo.segmenters.grabcut import GrabCutSegmenter
from samvideo.trackers.factory import create_tracker
from samvideo.trackers.first_mask import FirstMaskTracker
from samvideo.trackers.flow import FlowTracker
from samvideo.trackers.stills import StillsTracker
from samvideo.types import BoolArray, Box, Frame, Mask, Points, UInt8Array
from tests.scenes import RED, SIZE, Shape, overlap, scene

FRAMES, TRUTH = scene(6, Shape(lambda index: (40 + 2.0 * index, 50), 18, RED))
BOX = Box((21, 31, 59, 69), object_id=1)
CLICK = Points([(40, 50)], object_id=1)


class Recorder:
    """A segmenter whose answer is always the same, with logits; notes what it was given."""

    def __init__(self, mask: BoolArray, lookahead: int = 0) -> None:
        self.mask, self.lookahead, self.previous = mask, lookahead, list[Mapping[int, Previous]]()
        self.embedded: list[bool] = []

    def embed(self, rgb: UInt8Array, upcoming: UInt8Array | None = None) -> EmbeddedImage:
        self.embedded.append(upcoming is not None)
        return RecordedImage(self)


class RecordedImage(EmbeddedImage):
    def __init__(self, recorder: Recorder) -> None:
        super().__init__(SIZE)
        self._recorder = recorder

    def _candidates(
        self, prompts: Sequence[ObjectPrompt], previous: Mapping[int, Previous], multimask: bool | None
    ) -> list[Segmentation]:
        if any(len(prompt.labels) > 2 for prompt in prompts):
            raise PromptError("two clicks at most")
        self._recorder.previous.append(previous)
        masks = np.stack([~self._recorder.mask, self._recorder.mask])
        logits = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
        return [Segmentation(p.object_id, masks, np.array([0.2, 0.9], np.float32), logits) for p in prompts]


def test_boxes_become_the_masks_of_the_segmenter() -> None:
    segmenter = Recorder(TRUTH[0, 0])
    tracker, plain = FirstMaskTracker(FlowTracker(), segmenter), FlowTracker()
    for frame in FRAMES:
        first = frame.index == 0
        found = tracker.step(frame, [BOX] if first else [])
        expected = plain.step(frame, [Mask(TRUTH[0, 0], object_id=1)] if first else [])
        assert np.array_equal(found.masks, expected.masks)
    assert overlap(found.masks[0], TRUTH[-1, 0]) > 0.7
    assert segmenter.embedded == [False]


def test_what_clicks_correct() -> None:
    """Nothing at first, then the answer on the same frame with its logits, then what was tracked; a box nothing."""
    segmenter = Recorder(TRUTH[0, 0])
    tracker = FirstMaskTracker(FlowTracker(), segmenter)
    tracker.step(FRAMES[0], [CLICK])
    tracker.step(FRAMES[0], [CLICK])
    tracked = FirstMaskTracker(FlowTracker(), Recorder(TRUTH[0, 0]))
    tracked.step(FRAMES[0], [CLICK])
    expected = tracked.step(FRAMES[1]).mask(1)
    tracker.step(FRAMES[1], [CLICK])
    tracker.step(FRAMES[1], [Mask(TRUTH[1, 0], object_id=1)])
    tracker.step(FRAMES[1], [CLICK])
    tracker.step(FRAMES[1], [BOX])
    first, again, later, after_mask, box = segmenter.previous
    assert first == box == {}
    assert isinstance(again[1], Segmentation)
    assert again[1].logits_nhw is not None
    assert np.array_equal(again[1].logits_nhw, [[[4, 5], [6, 7]]]), "of the chosen candidate"
    assert np.array_equal(later[1], expected)  # type: ignore[arg-type]
    assert np.array_equal(after_mask[1], TRUTH[1, 0])  # type: ignore[arg-type]
    assert len(segmenter.embedded) == 2, "once a frame"


def test_answers_survive_state_and_restore() -> None:
    one, other = (Recorder(TRUTH[0, 0]) for _ in range(2))
    tracker, restored = (FirstMaskTracker(FlowTracker(), segmenter) for segmenter in (one, other))
    tracker.step(FRAMES[0], [CLICK])
    restored.restore(tracker.state())
    assert np.array_equal(restored.step(FRAMES[0], [CLICK]).masks, tracker.step(FRAMES[0], [CLICK]).masks)
    assert isinstance(other.previous[0][1], Segmentation)


def test_the_upcoming_frame_reaches_a_segmenter_that_looks_ahead() -> None:
    segmenter = Recorder(TRUTH[0, 0], lookahead=1)
    tracker = FirstMaskTracker(FlowTracker(), segmenter)
    assert tracker.lookahead == 1
    tracker.step(FRAMES[0], [BOX], upcoming=FRAMES[1])
    assert segmenter.embedded == [True]


def test_a_prompt_that_the_segmenter_refuses_changes_nothing() -> None:
    tracker, undisturbed = (FirstMaskTracker(FlowTracker(), Recorder(TRUTH[0, 0])) for _ in range(2))
    for each in (tracker, undisturbed):
        each.step(FRAMES[0], [BOX])
    with pytest.raises(PromptError, match="two clicks"):
        tracker.step(FRAMES[1], [Points([(40, 50), (41, 50), (42, 50)], object_id=1)])
    for frame in FRAMES[1:3]:
        assert np.array_equal(tracker.step(frame).masks, undisturbed.step(frame).masks)


def test_by_name() -> None:
    tracker = create_tracker("flow", first_mask="nano")
    assert overlap(tracker.step(FRAMES[0], [BOX]).masks[0], TRUTH[0, 0]) > 0.8
    with pytest.raises(ConfigError, match="did you mean 'nano'"):
        create_tracker("flow", first_mask="nanno")


def test_single_images_are_answered_alone() -> None:
    tracker = StillsTracker(GrabCutSegmenter())
    first = tracker.step(FRAMES[0], [BOX, Box((100, 60, 140, 110), object_id=4)])
    assert first.object_ids == (1, 4)
    assert overlap(first.mask(1), TRUTH[0, 0]) > 0.8
    tracker.forget(4)
    assert tracker.step(FRAMES[0]).object_ids == (1,), "the same frame"
    assert tracker.step(FRAMES[1]).object_ids == ()
    other = tracker.step(Frame(2, 0.0, FRAMES[2].rgb[:90, :100]), [BOX])
    assert other.masks.shape == (1, 90, 100)
    with pytest.raises(ConfigError, match="no state"):
        tracker.state()
