"""Tracking that is paused, corrected and continued comes out as if it had been done in one go."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import cv2
import numpy as np
import pytest

from samvideo.errors import ConfigError, PromptError
from samvideo.geometry import mask_box
from samvideo.io.source import VideoSource, open_video
from samvideo.segmenters.grabcut import GrabCutSegmenter
from samvideo.trackers.base import Tracker
from samvideo.trackers.direction import propagate_directions
from samvideo.trackers.flow import FlowTracker
from samvideo.types import Frame, FrameResult, Prompt
from samvideo.types import Mask as MaskPrompt
from samvideo.web.annotations import Annotation, Annotations, AnnotationStore
from samvideo.web.passes import InteractiveTracking
from samvideo.web.preview import preview_masks
from samvideo.web.results import Results
from tests.scenes import BLUE, RED, SIZE, Shape, scene

COUNT = 14
FRAMES, TRUTH = scene(
    COUNT, Shape(lambda k: (35.0 + 3 * k, 40.0), 16, RED), Shape(lambda k: (120.0 - 3 * k, 88.0), 14, BLUE)
)
PICTURES = [frame.rgb for frame in FRAMES]
OPEN = ExitStack()


@pytest.fixture(autouse=True)
def closed_after_each_test() -> Iterator[None]:
    with OPEN:
        yield


def source() -> VideoSource:
    return open_video(PICTURES, rate=25)


def box(index: int, row: int) -> tuple[float, float, float, float]:
    found = mask_box(TRUTH[index, row])
    assert found
    return found


class Setting:
    def __init__(self, tracker: Tracker | None = None) -> None:
        self.results = OPEN.enter_context(Results(SIZE))
        self.store = AnnotationStore(SIZE, COUNT)
        self.tracker = tracker or FlowTracker()
        self.tracking = InteractiveTracking(self.tracker, source, self.results, COUNT)

    def mark(self, index: int, object_id: int, row: int) -> None:
        while object_id not in self.store.current.names:
            self.store.add_object()
        self.store.set_box(index, object_id, box(index, row))

    def run(self, direction: Any = "forward") -> list[FrameResult]:
        return list(self.tracking.run(self.store.current.by_frame(), direction))

    def found(self) -> list[FrameResult]:
        return [self.results.take(frame, set(self.store.current.names)) for frame in FRAMES]


def at_once(marks: Annotations, direction: Any) -> list[FrameResult]:
    """The same by the library's own loop, joined by frame."""
    prompts: dict[int, list[Prompt]] = {
        frame: [p for i, mark in here.items() for p in mark.prompts(i)] for frame, here in marks.items()
    }
    joined = OPEN.enter_context(Results(SIZE))
    with source() as video:
        for result in propagate_directions(FlowTracker(), video, prompts, direction):
            joined.put(result, 1, whole=False)
    return [joined.take(frame, {1, 2, 3}) for frame in FRAMES]


def same(found: Iterable[FrameResult], wanted: Iterable[FrameResult]) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert one.object_ids == other.object_ids, one.index
        np.testing.assert_array_equal(one.masks, other.masks)
        np.testing.assert_array_equal(one.scores, other.scores)
        np.testing.assert_array_equal(one.present, other.present)


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_one_pass_is_the_librarys_own(direction: str) -> None:
    setting = Setting()
    setting.mark(6, 1, 0)
    setting.mark(9, 2, 1)
    setting.run(direction)
    same(setting.found(), at_once(setting.store.current.by_frame(), direction))


def test_a_correction_changes_only_what_comes_after_it() -> None:
    setting = Setting()
    setting.mark(0, 1, 0)
    setting.run()
    before = setting.found()
    assert setting.tracking.changed(setting.store.current.by_frame()) == set()
    setting.mark(8, 1, 1)  # another thing altogether, so that it shows
    setting.mark(8, 2, 0)
    assert setting.tracking.changed(setting.store.current.by_frame()) == {(8, 1), (8, 2)}
    setting.run()
    same(setting.found()[:8], before[:8])
    assert setting.found()[13].object_ids == (1, 2)
    same(setting.found(), at_once(setting.store.current.by_frame(), "forward"))


def test_left_half_way_it_goes_on_where_it_stood() -> None:
    setting = Setting()
    setting.mark(0, 1, 0)
    steps = setting.tracking.run(setting.store.current.by_frame(), "forward")
    for result in steps:
        if result.index == 5:
            break
    steps.close()
    setting.mark(9, 2, 1)  # ahead of where it stood: nothing is tracked twice
    seen = [result.index for result in setting.run()]
    assert seen == list(range(6, COUNT))
    same(setting.found(), at_once(setting.store.current.by_frame(), "forward"))


def test_a_mark_moved_to_a_later_frame_leaves_nothing_before_it() -> None:
    setting = Setting()
    setting.mark(0, 1, 0)
    setting.run()
    setting.store.clear(0, 1)
    setting.mark(4, 1, 0)
    setting.run()
    assert [r.object_ids for r in setting.found()] == [()] * 4 + [(1,)] * (COUNT - 4)


def test_going_back_from_a_correction_changes_what_lies_before() -> None:
    setting = Setting()
    setting.mark(0, 1, 1)
    setting.run()
    setting.mark(8, 1, 0)
    setting.run("backward")
    overlaps = [
        (r.masks[0] & TRUTH[r.index, 0]).sum() / TRUTH[r.index, 0].sum() for r in setting.found() if r.object_ids
    ]
    assert all(share > 0.5 for share in overlaps[1:9])  # frame 0 has its own mark


class Counting(FlowTracker):
    """Counts its steps and notes which of them had prompts, and the upcoming frame given with them."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[int, int | None]] = []

    def step(self, frame: Frame, prompts: Sequence[Prompt] = (), *, upcoming: Frame | None = None) -> FrameResult:
        self.steps.append((len(prompts), upcoming and upcoming.index))
        return super().step(frame, prompts, upcoming=upcoming)


class Stateless(Counting):
    """A tracker that cannot save its state."""

    def state(self) -> bytes:
        raise ConfigError("no state")


@pytest.mark.parametrize(("kind", "steps"), [(Counting, COUNT - 9), (Stateless, COUNT)])
def test_saved_states_spare_frames(kind: type[Counting], steps: int) -> None:
    setting = Setting(tracker := kind())
    setting.mark(0, 1, 0)
    setting.run()
    tracker.steps.clear()
    setting.mark(10, 1, 1)
    setting.run()
    assert len(tracker.steps) == steps
    same(setting.found(), at_once(setting.store.current.by_frame(), "forward"))


def test_nothing_marked_is_an_error() -> None:
    with pytest.raises(PromptError, match="draw a box"):
        Setting().run()


def test_rows_say_what_is_worth_a_look() -> None:
    results = OPEN.enter_context(Results((10, 10)))

    seen = [(80, 0.9), (80, 0.9), (80, 0.6), (0, 0.0), (0, 0.0), (80, 0.9), (20, 0.9)]
    seen += [(20, score / 100) for score in range(90, 75, -2)]  # falls slowly

    def put(index: int, size: int, score: float) -> None:
        mask = np.zeros((1, 10, 10), bool)
        mask[0].flat[:size] = True
        present = np.array([size > 0])
        results.put(FrameResult(index, 0.0, (1,), mask, np.array([score], np.float32), present), 1, whole=True)

    for index, (size, score) in enumerate(seen):
        put(index, size, score)
    count, rows = results.news(0)
    assert [row and row.suspicion for _, _, row in rows] == [
        "",
        "",
        "score",
        "lost",
        "",
        "",
        "area",
        *[""] * 7,
        "score",
    ]
    assert results.news(count) == (count, [])
    results.drop([2])
    assert results.news(count)[1] == [(2, 1, None)]


class Ahead(GrabCutSegmenter):
    """A segmenter that looks ahead."""

    lookahead = 1


def test_the_upcoming_frame_is_given_with_annotations() -> None:
    tracker = Counting()
    tracker.segmenter = Ahead()
    tracking = InteractiveTracking(tracker, source, OPEN.enter_context(Results(SIZE)), COUNT)
    drawn = {2: {1: Annotation(box=tuple(float(v) for v in mask_box(TRUTH[2, 0])))}}  # type: ignore[arg-type]
    next(tracking.run(drawn, "forward"))
    next(tracking.run(drawn, "backward"))
    assert [upcoming for prompts, upcoming in tracker.steps if prompts] == [3, 1]


@pytest.mark.parametrize("direction", ["backward", "both"])
def test_a_removed_object_does_not_stop_a_pass(direction: str) -> None:
    setting = Setting()
    setting.mark(6, 1, 0)
    setting.mark(6, 2, 1)
    setting.run(direction)
    setting.store.remove_object(2)
    setting.run(direction)
    assert setting.found()[0].object_ids == (1,)


def test_previews_segment_each_object_and_correct_known_masks() -> None:
    known = FlowTracker().step(FRAMES[0], [MaskPrompt(TRUTH[0, 0], object_id=1)])
    box = tuple(float(v) for v in mask_box(TRUTH[0, 1]))  # type: ignore[arg-type]
    drawn = {2: Annotation(box=box), 1: Annotation(clicks=((35.0, 40.0, 1),))}
    preview = preview_masks(GrabCutSegmenter(), FRAMES[0], drawn, known, FRAMES[1])
    assert preview.object_ids == (1, 2)
    for row in (0, 1):
        mask = cv2.resize(preview.masks[row].astype(np.uint8), SIZE, interpolation=cv2.INTER_NEAREST) > 0
        assert (mask & TRUTH[0, row]).sum() > 0.7 * (mask | TRUTH[0, row]).sum()
