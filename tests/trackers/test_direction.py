"""Backwards and both ways."""

import numpy as np
import pytest
from tiny_sam import ClipSource, clip, tiny_tracker

from samvideo.errors import ConfigError, PromptError, VideoError
from samvideo.trackers.direction import backwards, propagate_directions
from samvideo.trackers.sam import SamTracker
from samvideo.types import Box, Points

BOX = Box(object_id=1, xyxy=(10, 20, 34, 44))
CLICK = Points(object_id=2, xy=[(40.0, 30.0)])


def tracker() -> SamTracker:
    return tiny_tracker(logits=True)


def test_backwards_reads_in_chunks() -> None:
    source = ClipSource(30)
    assert [f.index for f in backwards(source, 21, chunk=8)] == list(range(21, -1, -1))
    assert source.seeks == 3


def test_backward_equals_a_reversed_video() -> None:
    t, by_hand = tracker(), tracker()
    results = list(propagate_directions(t, ClipSource(9), {6: [BOX]}, "backward"))
    assert [r.index for r in results] == [6, 5, 4, 3, 2, 1, 0]
    for result, frame in zip(results, reversed(clip(7)), strict=True):
        assert np.array_equal(result.logits, by_hand.step(frame, [BOX] if frame.index == 6 else []).logits)


def test_both_ways_gives_every_frame_and_object_once() -> None:
    prompts = {4: [BOX], 7: [CLICK, Points(object_id=1, xy=[(20, 30)])]}
    results = list(propagate_directions(tracker(), ClipSource(10), prompts, "both"))
    pairs = [(r.index, i) for r in results for i in r.object_ids]
    assert sorted(pairs) == sorted((f, i) for f in range(10) for i in (1, 2))
    assert [r.index for r in results] == [4, 5, 6, 7, 8, 9, 6, 5, 4, 3, 2, 1, 0]


def test_forward_starts_at_the_first_prompt() -> None:
    source = ClipSource(6)
    assert [r.index for r in propagate_directions(tracker(), source, {2: [BOX]})] == [2, 3, 4, 5]
    unseekable = ClipSource(3)
    list(propagate_directions(tracker(), unseekable, {0: [BOX]}))
    assert unseekable.seeks == 0, "a camera can be tracked forwards"


def test_errors() -> None:
    with pytest.raises(ConfigError, match="direction"):
        list(propagate_directions(tracker(), ClipSource(3), {0: [BOX]}, "sideways"))  # type: ignore[arg-type]
    with pytest.raises(PromptError, match="at least one prompt"):
        list(propagate_directions(tracker(), ClipSource(3), {}))
    with pytest.raises(VideoError, match="before frame 9"):
        list(propagate_directions(tracker(), ClipSource(3), {0: [BOX], 9: [BOX]}))
