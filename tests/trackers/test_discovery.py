"""Objects found while others are tracked: ids that last, leaving, returning, and a bound on their number."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from samvideo.errors import ConfigError
from samvideo.prompters.base import MaskProposal
from samvideo.trackers.discovery import DiscoveringTracker, DiscoveryConfig
from samvideo.types import BoolArray, Frame, FrameResult, Mask, Prompt

SIZE = 60, 40
COLOURS = ((220, 40, 40), (40, 200, 40), (40, 40, 220))


def picture(*places: int | None) -> np.ndarray:
    """One square of each colour, its left edge at a place."""
    rgb = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
    for row, (place, colour) in enumerate(zip(places, COLOURS, strict=False)):
        if place is not None:
            rgb[2 + 12 * row : 12 + 12 * row, place : place + 10] = colour
    return rgb


def of_colour(rgb: np.ndarray, colour: Sequence[int]) -> BoolArray:
    return np.asarray((rgb == colour).all(2))


class Finder:
    """Proposes every square, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def propose(self, rgb: np.ndarray) -> list[MaskProposal]:
        self.asked.append(int(rgb[0, 0, 0]))
        masks = [of_colour(rgb, colour) for colour in COLOURS]
        return [MaskProposal(m, 0.9, 1.0, None, (0, 0, *SIZE)) for m in masks if m.any()]


class BoxFinder(Finder):
    """Also finds boxes alone, with an objectness that can be changed; the third colour is not an object."""

    objectness = 0.5

    def propose(self, rgb: np.ndarray) -> list[MaskProposal]:
        scores = [self.objectness, self.objectness, 0.1]
        proposals = super().propose(rgb)
        return [replace(one, score=score) for one, score in zip(proposals, scores, strict=False)]

    def find_boxes(self, rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        boxes = [one.box for one in self.propose(rgb)]
        self.asked.pop()
        return np.array(boxes, np.float32).reshape(-1, 4), np.full(len(boxes), self.objectness, np.float32)


class ColourTracker:
    """Finds the colour of each mask again."""

    lookahead = 0

    def __init__(self) -> None:
        self.colours: dict[int, Any] = {}

    def step(self, frame: Frame, prompts: Sequence[Prompt] = (), *, upcoming: Frame | None = None) -> FrameResult:
        for prompt in prompts:
            assert isinstance(prompt, Mask)
            assert prompt.object_id is not None
            self.colours[prompt.object_id] = frame.rgb[prompt.mask][0]
        ids = tuple(sorted(self.colours))
        masks = np.array([of_colour(frame.rgb, self.colours[i]) for i in ids], bool).reshape(
            -1, *frame.rgb.shape[:2]
        )
        present = masks.any((1, 2))
        return FrameResult(frame.index, frame.seconds, ids, masks, np.ones(len(ids), np.float32), present)

    def forget(self, object_id: int) -> None:
        del self.colours[object_id]

    def reset(self) -> None:
        self.colours = {}

    def state(self) -> bytes:
        return repr({i: c.tolist() for i, c in self.colours.items()}).encode()

    def restore(self, state: bytes) -> None:
        import ast

        self.colours = {i: np.array(c, np.uint8) for i, c in ast.literal_eval(state.decode()).items()}


def appearance(rgb: np.ndarray, masks: Sequence[BoolArray]) -> np.ndarray:
    return np.array([rgb[mask].mean(0) - 128 for mask in masks], np.float32)


def run(tracker: DiscoveringTracker, pictures: Sequence[np.ndarray], first: int = 0) -> list[FrameResult]:
    return [tracker.step(Frame(k, k / 10, rgb)) for k, rgb in enumerate(pictures, first)]


def test_objects_are_found_and_those_that_enter_later_too() -> None:
    tracker = DiscoveringTracker(ColourTracker(), Finder(), DiscoveryConfig(every=0.5, moving=2))
    results = run(tracker, [picture(2 + k, 20) for k in range(8)] + [picture(10 + k, 20, 40) for k in range(8)])
    assert results[0].object_ids == (1, 2)
    assert results[9].object_ids == (1, 2)
    assert results[10].object_ids == (1, 2, 3), "at the next search"
    assert results[-1].object_ids == (1, 2, 3)
    assert [(i.first, i.last) for i in tracker.intervals.values()] == [(0, 15), (0, 15), (10, 15)]


def test_motion_beside_objects_starts_a_search_before_its_time() -> None:
    finder = Finder()
    tracker = DiscoveringTracker(ColourTracker(), finder, DiscoveryConfig(every=100))
    results = run(tracker, [picture(2)] * 4 + [picture(2, 20)] * 2)
    assert [len(r.object_ids) for r in results] == [1, 1, 1, 1, 2, 2]
    assert len(finder.asked) == 2, "not on every frame"


def test_a_box_that_nothing_explains_starts_a_search_before_its_time() -> None:
    finder = BoxFinder()
    tracker = DiscoveringTracker(ColourTracker(), finder, DiscoveryConfig(every=100, moving=2, look=0.2))
    results = run(tracker, [picture(2)] * 3 + [picture(2, 20)] * 5)
    assert [len(r.object_ids) for r in results] == [1, 1, 1, 1, 2, 2, 2, 2], "at the next look"
    assert len(finder.asked) == 2


def test_what_a_search_saw_starts_another_one_only_once_its_objectness_has_grown() -> None:
    finder = BoxFinder()
    tracker = DiscoveringTracker(
        ColourTracker(), finder, DiscoveryConfig(every=100, moving=2, look=0.1, rating=0.4)
    )
    finder.objectness = 0.3
    assert not run(tracker, [picture(2)] * 3)[-1].object_ids, "0.3 x 0.9 is below the least rating"
    assert len(finder.asked) == 1
    finder.objectness = 0.5
    assert run(tracker, [picture(2)] * 3, first=3)[-1].object_ids == (1,)
    assert len(finder.asked) == 2


def test_proposals_of_a_low_rating_are_not_tracked() -> None:
    result = run(DiscoveringTracker(ColourTracker(), BoxFinder()), [picture(2, 20, 40)])[0]
    assert result.object_ids == (1, 2)


def test_what_left_is_retired_and_keeps_its_id_when_it_returns() -> None:
    config = DiscoveryConfig(every=0.2, retire=0.5)
    tracker = DiscoveringTracker(ColourTracker(), Finder(), config, appearance)
    away = [picture(2, None)] * 10
    results = run(tracker, [picture(2, 20), *away, picture(2, None, 30), *[picture(2, 25, 30)] * 3])
    assert results[0].object_ids == (1, 2)
    assert results[10].object_ids == (1,)
    assert results[11].object_ids == (1, 3), "another one looks different"
    assert results[-1].object_ids == (1, 2, 3)
    assert of_colour(picture(2, 25, 30), COLOURS[1]).sum() == results[-1].mask(2).sum()


def test_without_looks_what_returns_is_new() -> None:
    tracker = DiscoveringTracker(ColourTracker(), Finder(), DiscoveryConfig(every=0.2, retire=0.5))
    results = run(tracker, [picture(2, 20), *[picture(2, None)] * 10, *[picture(2, 20)] * 3])
    assert results[-1].object_ids == (1, 3)


def test_the_number_of_objects_is_bounded_and_what_was_refused_is_counted() -> None:
    tracker = DiscoveringTracker(ColourTracker(), Finder(), DiscoveryConfig(most=2))
    results = run(tracker, [picture(2, 20, 40)] * 3)
    assert results[-1].object_ids == (1, 2)
    assert tracker.refused == 1


def test_prompts_add_objects_and_are_not_found_again() -> None:
    tracker = DiscoveringTracker(ColourTracker(), Finder())
    rgb = picture(2, 20)
    result = tracker.step(Frame(0, 0.0, rgb), [Mask(of_colour(rgb, COLOURS[1]), object_id=7)])
    assert result.object_ids == (7, 8)
    assert (result.mask(7) == of_colour(rgb, COLOURS[1])).all()


def test_a_restored_tracker_goes_on_alike() -> None:
    pictures = [picture(2 + k, 20) for k in range(6)] + [picture(8, 20, 40)] * 8
    config = DiscoveryConfig(every=0.3, moving=2)
    whole = run(DiscoveringTracker(ColourTracker(), Finder(), config), pictures)
    first = DiscoveringTracker(ColourTracker(), Finder(), config)
    run(first, pictures[:5])
    second = DiscoveringTracker(ColourTracker(), Finder(), config)
    second.restore(first.state())
    for one, other in zip(run(second, pictures[5:], 5), whole[5:], strict=True):
        assert one.object_ids == other.object_ids
        assert (one.masks == other.masks).all()


@pytest.mark.parametrize("wrong", [{"every": 0}, {"every": float("nan")}, {"most": 0}])
def test_bad_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        DiscoveryConfig(**wrong)
