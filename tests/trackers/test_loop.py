import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from samvideo import Box, Frame, FrameResult, track
from samvideo.errors import ConfigError, PromptError
from samvideo.io.images import ArraySource
from samvideo.trackers.direction import follow
from samvideo.trackers.loop import run
from samvideo.types import Prompt


class Recorder:
    """A tracker that writes down what it was handed."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, list[int | None]]] = []

    def step(self, frame: Frame, prompts: Sequence[Prompt] = ()) -> FrameResult:
        self.seen.append((frame.index, [p.object_id for p in prompts]))
        empty = np.zeros((0, *frame.rgb.shape[:2]), bool)
        return FrameResult(frame.index, frame.seconds, (), empty, np.zeros(0, np.float32), np.zeros(0, bool))

    def forget(self, object_id: int) -> None: ...

    def reset(self) -> None: ...


def frames(count: int, *, first: int = 0, stride: int = 1, rate: float = 10) -> Iterator[Frame]:
    for index in range(first, first + count * stride, stride):
        yield Frame(index, index / rate, np.zeros((4, 4, 3), np.uint8))


def handed(prompts: Sequence[Prompt], **kwargs: int) -> dict[int, list[int | None]]:
    recorder = Recorder()
    for _ in run(frames(6, **kwargs), recorder, prompts, stride=kwargs.get("stride", 1)):
        pass
    return {index: ids for index, ids in recorder.seen if ids}


BOX = (0, 0, 2, 2)


def test_prompts_wait_for_their_frames() -> None:
    prompts = [Box(BOX), Box(BOX, frame=3, object_id=1), Box(BOX, seconds=0.45), Box(BOX)]
    assert handed(prompts) == {0: [2, 4], 3: [1], 4: [3]}


def test_a_time_means_the_frame_on_show() -> None:
    assert handed([Box(BOX, seconds=0.1)]) == {1: [1]}
    assert handed([Box(BOX, seconds=0.59)]) == {5: [1]}
    assert handed([Box(BOX, seconds=0.3)], stride=2) == {2: [1]}


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
        handed([prompt], **kwargs)


def test_a_live_source_does_not_lag() -> None:
    pulled = []

    def live() -> Iterator[Frame]:
        for frame in frames(3):
            pulled.append(frame.index)
            yield frame

    steps = run(live(), Recorder(), [Box(BOX)])
    next(steps)
    assert pulled == [0]


class Foreseeing(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.foreseen: list[tuple[int, int]] = []

    def foresee(self, frame: Frame) -> None:
        self.foreseen.append((len(self.seen), frame.index))


def test_a_tracker_that_foresees_is_shown_what_follows_a_prompted_frame() -> None:
    tracker = Foreseeing()
    prompts = [Box(BOX), Box(BOX, frame=2), Box(BOX, frame=4)]
    assert len(list(run(frames(5), tracker, prompts, ahead=True))) == 5
    assert tracker.foreseen == [(0, 1), (2, 3)]
    tracker = Foreseeing()
    list(track(np.zeros((3, 4, 4, 3), np.uint8), [Box(BOX)], model=tracker))
    assert tracker.foreseen == [(0, 1)]


def test_one_that_goes_backwards_is_shown_the_frame_before() -> None:
    tracker = Foreseeing()
    with ArraySource(np.zeros((5, 4, 4, 3), np.uint8)) as source:
        list(follow(tracker, source, {3: [Box(BOX)]}, "backward"))
        assert tracker.foreseen == [(0, 2)]
        tracker = Foreseeing()
        list(follow(tracker, source, {3: [Box(BOX)]}, "both"))
        assert tracker.foreseen == [(0, 4), (2, 2)]


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
        def step(self, frame: Frame, prompts: Sequence[Prompt] = ()) -> FrameResult:
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
