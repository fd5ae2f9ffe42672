"""Backwards, both ways, and corrections of earlier frames."""

import numpy as np
import pytest
from tiny_sam import ClipSource, clip, tiny_model

from samvideo.errors import ConfigError, PromptError, VideoError
from samvideo.trackers.direction import backwards, follow
from samvideo.trackers.sam import SamTracker
from samvideo.trackers.session import Session
from samvideo.types import Box, Points

BOX = Box(object_id=1, xyxy=(10, 20, 34, 44))
CLICK = Points(object_id=2, xy=[(40.0, 30.0)])


def tracker() -> SamTracker:
    return SamTracker(tiny_model(), logits=True)


def test_backwards_reads_in_chunks() -> None:
    source = ClipSource(30)
    assert [f.index for f in backwards(source, 21, chunk=8)] == list(range(21, -1, -1))
    assert source.seeks == 3


def test_backward_equals_a_reversed_video() -> None:
    t, by_hand = tracker(), tracker()
    results = list(follow(t, ClipSource(9), {6: [BOX]}, "backward"))
    assert [r.index for r in results] == [6, 5, 4, 3, 2, 1, 0]
    for result, frame in zip(results, reversed(clip(7)), strict=True):
        assert np.array_equal(result.logits, by_hand.step(frame, [BOX] if frame.index == 6 else []).logits)


def test_both_ways_gives_every_frame_and_object_once() -> None:
    asked = {4: [BOX], 7: [CLICK, Points(object_id=1, xy=[(20, 30)])]}
    results = list(follow(tracker(), ClipSource(10), asked, "both"))
    pairs = [(r.index, i) for r in results for i in r.object_ids]
    assert sorted(pairs) == sorted((f, i) for f in range(10) for i in (1, 2))
    assert [r.index for r in results] == [4, 5, 6, 7, 8, 9, 6, 5, 4, 3, 2, 1, 0]


def test_forward_starts_at_the_first_prompt() -> None:
    source = ClipSource(6)
    assert [r.index for r in follow(tracker(), source, {2: [BOX]})] == [2, 3, 4, 5]
    unsought = ClipSource(3)
    list(follow(tracker(), unsought, {0: [BOX]}))
    assert unsought.seeks == 0, "a camera can be tracked forwards"


def test_errors() -> None:
    with pytest.raises(ConfigError, match="direction"):
        list(follow(tracker(), ClipSource(3), {0: [BOX]}, "sideways"))  # type: ignore[arg-type]
    with pytest.raises(PromptError, match="at least one prompt"):
        list(follow(tracker(), ClipSource(3), {}))
    with pytest.raises(VideoError, match="before frame 9"):
        list(follow(tracker(), ClipSource(3), {0: [BOX], 9: [BOX]}))
    with pytest.raises(PromptError, match="prompt first"):
        list(Session(tracker(), ClipSource(3)).run())
    with pytest.raises(VideoError, match="no frame 5"):
        Session(tracker(), ClipSource(3)).prompt(5, [BOX])


def straight(said: dict[int, list], count: int) -> list[np.ndarray]:
    t = tracker()
    return [t.step(f, said.get(f.index, [])).logits for f in clip(count)]


def test_correction_of_an_earlier_frame_replays() -> None:
    """Going back gives what tracking straight through with the same prompts gives."""
    session = Session(tracker(), ClipSource(12))
    session.prompt(0, [BOX])
    list(session.run())
    fix = Points(object_id=1, xy=[(25, 30)])
    late = session.prompt(9, [fix])
    assert late.index == 9
    back = session.prompt(5, [fix])
    rest = list(session.run())
    expected = straight({0: [BOX], 5: [fix], 9: [fix]}, 12)
    assert [r.index for r in rest] == list(range(6, 12))
    for result in [back, *rest]:
        assert np.array_equal(result.logits, expected[result.index])


def test_more_clicks_on_the_same_earlier_frame() -> None:
    session = Session(tracker(), ClipSource(8))
    session.prompt(0, [BOX])
    first = session.prompt(3, [Points(object_id=1, xy=[(25, 30)])])
    second = session.prompt(3, [Points(object_id=1, xy=[(20, 25)], labels=[0])])
    assert not np.array_equal(first.logits, second.logits)
    list(session.run())
    session.prompt(1, [Points(object_id=1, xy=[(22, 30)])])
    assert [r.index for r in session.run(until=3)] == [2, 3]


def test_prompt_before_everything_and_ahead() -> None:
    session = Session(tracker(), ClipSource(8))
    session.prompt(4, [BOX])
    session.prompt(1, [CLICK])
    results = list(session.run())
    expected = straight({1: [CLICK], 4: [BOX]}, 8)[2:]
    assert [r.object_ids for r in results] == [(2,), (2,), (1, 2), (1, 2), (1, 2), (1, 2)]
    assert all(np.array_equal(r.logits, e) for r, e in zip(results, expected, strict=True))
    ahead = session.prompt(7, [Points(xy=[(5, 5)])])
    assert ahead.object_ids == (1, 2, 3)


def test_snapshots_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samvideo.trackers.session.SNAPSHOTS", 3)
    session = Session(tracker(), ClipSource(10))
    session.prompt(0, [BOX])
    for index in range(1, 8):
        session.prompt(index, [Points(object_id=1, xy=[(20 + index, 30)])])
    assert sorted(session._states) == [0, 6, 7]
    said = {0: [BOX]} | {i: [Points(object_id=1, xy=[(20 + i, 30)])] for i in range(1, 8)}
    fix = Points(object_id=1, xy=[(9, 9)])
    assert np.array_equal(session.prompt(4, [fix]).logits.shape, straight({**said, 4: [*said[4], fix]}, 5)[4].shape)
