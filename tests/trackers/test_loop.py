import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from samvideo import Box, Frame, FrameResult, track
from samvideo.errors import ConfigError, PromptError, VideoError
from samvideo.io.images import ArraySource
from samvideo.trackers.direction import propagate_directions
from samvideo.trackers.schedule import IndexedSchedule, PromptSchedule, Schedule, propagate
from samvideo.types import Prompt


class Recorder:
    """A tracker that records its arguments."""

    def __init__(self, lookahead: int = 0) -> None:
        self.lookahead = lookahead
        self.seen: list[tuple[int, list[int | None]]] = []
        self.upcoming: list[tuple[int, int]] = []

    def step(self, frame: Frame, prompts: Sequence[Prompt] = (), *, upcoming: Frame | None = None) -> FrameResult:
        self.seen.append((frame.index, [p.object_id for p in prompts]))
        if upcoming is not None:
            self.upcoming.append((frame.index, upcoming.index))
        empty = np.zeros((0, *frame.rgb.shape[:2]), bool)
        return FrameResult(frame.index, frame.seconds, (), empty, np.zeros(0, np.float32), np.zeros(0, bool))

    def forget(self, object_id: int) -> None: ...

    def reset(self) -> None: ...

    def state(self) -> bytes:
        return b""

    def restore(self, state: bytes) -> None: ...


def frames(count: int, *, first: int = 0, stride: int = 1, rate: float = 10) -> Iterator[Frame]:
    for index in range(first, first + count * stride, stride):
        yield Frame(index, index / rate, np.zeros((4, 4, 3), np.uint8))


def given(prompts: Sequence[Prompt], **kwargs: int) -> dict[int, list[int | None]]:
    recorder = Recorder()
    for _ in propagate(frames(6, **kwargs), recorder, PromptSchedule(prompts, kwargs.get("stride", 1))):
        pass
    return {index: ids for index, ids in recorder.seen if ids}


BOX = (0, 0, 2, 2)


def test_prompts_wait_for_their_frames() -> None:
    prompts = [Box(BOX), Box(BOX, frame=3, object_id=1), Box(BOX, seconds=0.45), Box(BOX)]
    assert given(prompts) == {0: [1, 3], 3: [1], 4: [2]}


def test_a_time_means_the_frame_on_show() -> None:
    assert given([Box(BOX, seconds=0.1)]) == {1: [1]}
    assert given([Box(BOX, seconds=0.59)]) == {5: [1]}
    assert given([Box(BOX, seconds=0.3)], stride=2) == {2: [1]}


@pytest.mark.parametrize(
    ("prompt", "kwargs", "message"),
    [
        (Box(BOX, frame=6), {}, "never reached.* 5 at"),
        (Box(BOX, seconds=0.7), {}, "never reached"),
        (Box(BOX, frame=3), {"stride": 2}, "not among the frames"),
        (Box(BOX, frame=3), {"first": 5}, "not among the frames"),
        (Box(BOX, seconds=0.2), {"first": 5}, "not among the frames"),
    ],
)
def test_a_prompt_that_cannot_be_placed(prompt: Prompt, kwargs: dict[str, int], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        given([prompt], **kwargs)


def test_the_upcoming_frame_is_given_with_prompts_to_trackers_that_look_ahead() -> None:
    prompts = [Box(BOX), Box(BOX, frame=2), Box(BOX, frame=4)]
    for lookahead, expected in ((1, [(0, 1), (2, 3)]), (0, [])):
        tracker = Recorder(lookahead)
        assert len(list(propagate(frames(5), tracker, PromptSchedule(prompts)))) == 5
        assert tracker.upcoming == expected
    tracker = Recorder(1)
    list(track(np.zeros((3, 4, 4, 3), np.uint8), [Box(BOX)], model=tracker))
    assert tracker.upcoming == [(0, 1)]


def test_a_live_source_is_delayed_on_prompted_frames_only() -> None:
    for lookahead in (0, 1):
        read = []

        def live() -> Iterator[Frame]:
            for frame in frames(4):
                read.append(frame.index)  # noqa: B023
                yield frame

        steps = propagate(live(), Recorder(lookahead), PromptSchedule([Box(BOX), Box(BOX, frame=2)]))
        assert [(next(steps)[0].index, read[-1]) for _ in range(4)] == [
            (0, lookahead),
            (1, 1),
            (2, 2 + lookahead),
            (3, 3),
        ]


def test_backwards_the_upcoming_frame_is_the_one_before() -> None:
    with ArraySource(np.zeros((5, 4, 4, 3), np.uint8)) as source:
        for direction, expected in (("backward", [(3, 2)]), ("both", [(3, 4), (3, 2)])):
            tracker = Recorder(1)
            list(propagate_directions(tracker, source, {3: [Box(BOX)]}, direction))  # type: ignore[arg-type]
            assert tracker.upcoming == expected


def test_corrections_are_steps_on_the_same_frame_with_the_same_upcoming_one() -> None:
    class Correcting(Schedule):
        def __init__(self) -> None:
            self.left = 2

        def due(self, frame: Frame, until: float) -> list[Prompt]:
            return [Box(BOX)] if frame.index == 0 else []

        def corrections(self, frame: Frame, result: FrameResult) -> list[Prompt]:
            self.left -= frame.index == 0
            return [Box(BOX, object_id=7)] if frame.index == 0 and self.left >= 0 else []

    tracker = Recorder(1)
    assert len(list(propagate(frames(2), tracker, Correcting()))) == 2
    assert tracker.seen == [(0, [None]), (0, [7]), (0, [7]), (1, [])]
    assert tracker.upcoming == [(0, 1)] * 3


def test_an_error_of_the_source_comes_after_its_last_good_frame() -> None:
    def broken() -> Iterator[Frame]:
        yield from frames(2)
        raise VideoError("broken off")

    for lookahead in (0, 1):
        steps = propagate(broken(), Recorder(lookahead), PromptSchedule([Box(BOX), Box(BOX, frame=1)]))
        assert [next(steps)[0].index for _ in range(2)] == [0, 1]
        with pytest.raises(VideoError, match="broken off"):
            next(steps)
    assert list(propagate([], Recorder(), PromptSchedule([Box(BOX)]))) == []


def test_a_prompt_after_the_end_of_the_video_is_an_error() -> None:
    with pytest.raises(VideoError, match="before frame 9"):
        list(propagate(frames(3), Recorder(), IndexedSchedule({0: [Box(BOX)], 9: [Box(BOX)]})))


def test_track_checks_before_it_decodes() -> None:
    pictures = np.zeros((3, 4, 4, 3), np.uint8)
    with pytest.raises(ConfigError, match="nothing to track"):
        next(track(pictures, [], model=Recorder()))
    with pytest.raises(PromptError, match="0 to 2 expected"):
        next(track(pictures, [Box(BOX, frame=3)], model=Recorder()))
    with pytest.raises(PromptError, match="outside the range"):
        next(track(pictures, [Box(BOX, frame=0)], model=Recorder(), start=1))
    with pytest.raises(ConfigError, match="did you mean 'flow'"):
        next(track(pictures, [Box(BOX)], model="flwo"))
    with pytest.raises(ConfigError, match="stride"):
        next(track(pictures, [Box(BOX)], model=Recorder(), stride=0))


def test_the_decode_thread_is_gone_before_the_source_is_closed() -> None:
    class Refusing(Recorder):
        def step(
            self, frame: Frame, prompts: Sequence[Prompt] = (), *, upcoming: Frame | None = None
        ) -> FrameResult:
            raise PromptError("does not fit")

    class Watched(ArraySource):
        def close(self) -> None:
            reading.extend(t.name for t in threading.enumerate() if t.name == "samvideo-prefetch")
            super().close()

    reading: list[str] = []
    pictures = [np.zeros((4, 4, 3), np.uint8)] * 50
    with pytest.raises(PromptError, match="does not fit"):  # held here, with all that its traceback refers to
        next(track(Watched(pictures), [Box(BOX)], model=Refusing()))
    assert reading == []
    results = track(Watched(pictures), [Box(BOX)], model=Recorder())
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert reading == []


def test_track_streams_with_range_and_stride() -> None:
    recorder = Recorder()
    results = track(np.zeros((9, 4, 4, 3), np.uint8), [Box(BOX)], model=recorder, start=2, end=8, stride=2)
    assert [result.index for result in results] == [2, 4, 6]
    assert recorder.seen[0] == (2, [1])
