from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pytest
from evaluation_helpers import RepeatTracker

from samvideo.errors import ConfigError, DatasetError
from samvideo.evaluation.protocols import PROTOCOLS, ProtocolSchedule, find_protocol, next_click
from samvideo.types import BoolArray, Frame, FrameResult, Prompt


def square(x: int, y: int, side: int = 9, shape: tuple[int, int] = (32, 48)) -> BoolArray:
    mask = np.zeros(shape, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def frames(count: int) -> list[Frame]:
    return [Frame(k, k / 24, np.zeros((32, 48, 3), np.uint8)) for k in range(count)]


def run(
    name: str, truth: dict[int, dict[int, BoolArray]], count: int
) -> tuple[ProtocolSchedule, list[FrameResult], list[int]]:
    steps: list[int] = []
    first: dict[int, int] = {}
    for index in sorted(truth):
        for number in truth[index]:
            first.setdefault(number, index)
    prompter = ProtocolSchedule(find_protocol(name), first, truth.get)
    tracker = RepeatTracker(lambda frame: steps.append(frame.index))
    return prompter, [result for _, result in prompter.run(tracker, frames(count))], steps


def test_the_next_click_is_in_the_middle_of_the_largest_error() -> None:
    truth, prediction = square(10, 10), np.zeros((32, 48), bool)
    assert next_click(truth, prediction) == (14.5, 14.5, 1)
    assert next_click(prediction, truth) == (14.5, 14.5, 0)
    assert next_click(truth, truth) is None
    assert next_click(truth | square(30, 5, 5), truth) == (32.5, 7.5, 1)
    assert next_click(truth, truth | square(30, 5, 5)) == (32.5, 7.5, 0)
    corner = square(0, 0, 9)  # outside the frame nothing is, so the middle is that of the square
    assert next_click(corner, prediction) == (4.5, 4.5, 1)


def test_mask_and_box_are_given_where_an_object_appears() -> None:
    truth = {0: {1: square(5, 5)}, 2: {1: square(5, 5), 2: square(20, 10)}}
    for name in ("mask", "box"):
        _, results, steps = run(name, truth, 4)
        assert [result.object_ids for result in results] == [(1,), (1,), (1, 2), (1, 2)]
        assert (results[3].mask(2) == square(20, 10)).all()
        assert steps == [0, 1, 2, 3]


@pytest.mark.parametrize(("name", "clicks"), [("click1", 1), ("click3", 3), ("click5", 5)])
def test_clicks_come_one_at_a_time_on_the_same_frame(name: str, clicks: int) -> None:
    prompter, results, steps = run(name, {0: {1: square(5, 5, 15)}}, 2)
    assert steps == [0] * clicks + [1]
    made = prompter.clicks[0, 1]
    assert len(made) == clicks
    assert made[0] == (12.5, 12.5, 1)
    assert len(set(made)) == clicks
    assert results[1].mask(1).sum() == 25 * clicks


def test_clicking_stops_when_nothing_is_wrong() -> None:
    prompter, _, steps = run("click5", {0: {1: square(5, 5, 5)}}, 1)
    assert prompter.clicks[0, 1] == [(7.5, 7.5, 1)]
    assert steps == [0]


def test_online_corrects_where_the_mask_is_bad_and_no_more_than_allowed() -> None:
    truth = {0: {1: square(5, 5, 5)}} | {k: {1: square(20, 5, 5)} for k in range(1, 12)}
    prompter, results, _ = run("online", truth, 12)
    assert prompter.frames_clicked(1) == 2  # the second frame's clicks make the mask right for good
    assert (results[1].mask(1) & square(20, 5, 5)).sum() == 25
    jumping = {k: {1: square(3 + 7 * (k % 5), 5, 5)} for k in range(30)}
    prompter, _, _ = run("online", jumping, 30)
    assert prompter.frames_clicked(1) == PROTOCOLS["online"].frames


def test_offline_clicks_are_made_when_the_frame_comes_by_again() -> None:
    truth = {k: {1: square(5 + 20 * (k > 1), 5, 5)} for k in range(4)}
    prompter, _, _ = run("offline", truth, 4)
    prompter.correct(1, 2)
    results = [result for _, result in prompter.run(RepeatTracker(), frames(4))]
    assert {index for index, _ in prompter.clicks} == {0, 2}
    assert (results[3].mask(1) & square(25, 5, 5)).all() == square(25, 5, 5).all()


def test_every_protocol_says_what_it_is() -> None:
    texts = {protocol.describe() for protocol in PROTOCOLS.values()}
    assert len(texts) == len(PROTOCOLS)
    assert "J < 0.75, on at most 8 frames" in PROTOCOLS["online"].describe()
    with pytest.raises(ConfigError, match="no protocol 'points'; known: mask, box"):
        find_protocol("points")


def test_an_object_without_truth_cannot_be_prompted() -> None:
    prompter = ProtocolSchedule(find_protocol("mask"), {1: 0}, lambda index: None)
    with pytest.raises(DatasetError, match="no ground truth for object 1"):
        list(prompter.run(RepeatTracker(), frames(1)))
    prompter = ProtocolSchedule(find_protocol("mask"), {1: 0}, lambda index: {1: np.zeros((32, 48), bool)})
    with pytest.raises(DatasetError, match="has no pixel there"):
        list(prompter.run(RepeatTracker(), frames(1)))


def test_corrective_clicks_are_given_with_the_upcoming_frame_as_the_first_one_is() -> None:
    class Ahead(RepeatTracker):
        lookahead = 1
        upcoming: ClassVar[list[tuple[int, int | None]]] = []

        def step(
            self, frame: Frame, prompts: Sequence[Prompt] = (), *, upcoming: Frame | None = None
        ) -> FrameResult:
            if prompts:
                self.upcoming.append((frame.index, upcoming and upcoming.index))
            return super().step(frame, prompts, upcoming=upcoming)

    schedule = ProtocolSchedule(find_protocol("click3"), {1: 0}, {0: {1: square(5, 5, 15)}}.get)
    assert len(list(schedule.run(Ahead(), frames(3)))) == 3
    assert Ahead.upcoming == [(0, 1)] * 3
