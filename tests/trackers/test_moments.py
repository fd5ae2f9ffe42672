"""Prompts and ranges, as frames and as times: one rule in every direction and container, checked before the run."""

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from samvideo.errors import ConfigError, PromptError, SamVideoError, VideoError
from samvideo.io.source import VideoSource, clip, open_video
from samvideo.run import RunSettings
from samvideo.runner import run_tracking
from samvideo.trackers.direction import propagate_directions
from samvideo.trackers.loop import check_prompts, place_prompts, track
from samvideo.types import Box, Prompt
from tests.clips import numbered, write_clip
from tests.trackers.test_loop import Recorder

COUNT = 20
BOX = (0, 0, 2, 2)
PERIOD = 1 / 25
UNEVEN = [0, 0.04, 0.05, 0.2, 0.21, 0.22, 0.3, 0.5, 1.0, 1.2, 1.21, 1.22, 1.3, 1.5, 1.6, 1.7, 1.71, 1.8, 2.0, 2.2]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for suffix in ("mp4", "mkv", "ts", "webm", "avi", "mov"):
        codec = "libvpx-vp9" if suffix == "webm" else "libx264"
        options = {"deadline": "realtime", "cpu-used": "8"} if suffix == "webm" else {}
        write_clip(folder / f"even.{suffix}", COUNT, codec=codec, options=options)
    for suffix in ("mp4", "mkv", "mov"):
        write_clip(folder / f"uneven.{suffix}", COUNT, times=UNEVEN)
    write_clip(folder / "raw.h264", COUNT)
    return folder


NAMES = [
    *(f"even.{suffix}" for suffix in ("mp4", "mkv", "ts", "webm", "avi", "mov")),
    *(f"uneven.{suffix}" for suffix in ("mp4", "mkv", "mov")),
    "raw.h264",
]


def taken(video: VideoSource, prompt: Prompt, direction: str) -> int:
    """The frame on which a tracker gets the prompt."""
    recorder = Recorder()
    if direction == "forward":
        list(track(video, [prompt], model=recorder))
    else:
        list(propagate_directions(recorder, video, place_prompts([prompt], video), direction))  # type: ignore[arg-type]
    (index,) = {index for index, ids in recorder.seen if ids}
    return index


@pytest.mark.parametrize("name", NAMES)
def test_a_time_is_the_same_frame_in_every_direction(videos: Path, name: str) -> None:
    with open_video(videos / name) as video:
        starts = [frame.seconds for frame in video]
    assert len(starts) == COUNT
    if name.startswith("uneven"):
        assert starts == pytest.approx(UNEVEN, abs=1e-3)
    end = starts[-1] + (starts[-1] - starts[-2]) - 0.002
    for seconds in (0.0, 0.041, 0.21, 0.41, 0.59, end):
        shown = max(k for k in range(COUNT) if starts[k] <= seconds + 0.0006)
        for direction in ("forward", "backward", "both"):
            with open_video(videos / name) as video:
                assert (seconds, direction, taken(video, Box(BOX, seconds=seconds), direction)) == (
                    seconds,
                    direction,
                    shown,
                )


def arrays() -> VideoSource:
    return open_video([numbered(k) for k in range(COUNT)], rate=25)


@pytest.mark.parametrize("seconds", [0.41, 0.77])
def test_a_time_in_pictures(seconds: float) -> None:
    for direction in ("forward", "backward", "both"):
        assert taken(arrays(), Box(BOX, seconds=seconds), direction) == int(seconds * 25)


def test_a_single_picture_is_shown_for_a_period() -> None:
    for seconds in (0.0, 0.02):
        with open_video([numbered(0)]) as video:
            assert taken(video, Box(BOX, seconds=seconds), "forward") == 0


def refused(
    source: Path, prompt: Prompt, error: type[SamVideoError] = PromptError, code: int = 2, **more: object
) -> str:
    """The message of a run that is refused before a tracker is made and a file is written."""

    def forbidden() -> Recorder:
        raise AssertionError("the tracker is made")

    out = source.parent / "refused"
    settings = RunSettings(str(source), "flow", {}, out, ("rle",), prompts=(prompt,), **more)  # type: ignore[arg-type]
    with pytest.raises(error) as raised:
        run_tracking(settings, forbidden, None)  # type: ignore[arg-type]
    assert raised.value.exit_code == code
    assert not out.exists()
    return str(raised.value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_a_prompt_after_the_end(videos: Path, name: str, direction: str) -> None:
    for prompt in (Box(BOX, seconds=9), Box(BOX, frame=COUNT), Box(BOX, frame=500)):
        message = refused(videos / name, prompt, direction=direction)
        assert ("9 s" if prompt.seconds else f"frame {prompt.frame}") in message
    if name.startswith("even"):
        refused(videos / name, Box(BOX, seconds=COUNT * PERIOD + 0.002), direction=direction)


@pytest.mark.parametrize("name", ["even.mp4", "even.mkv"])
@pytest.mark.parametrize(
    ("prompt", "limits"),
    [
        (Box(BOX, frame=4), {"start": 5}),
        (Box(BOX, frame=4), {"start": 0.2}),
        (Box(BOX, seconds=0.19), {"start": 5}),
        (Box(BOX, seconds=0.19), {"start": 0.2}),
        (Box(BOX, frame=9), {"end": 9}),
        (Box(BOX, frame=9), {"end": 0.36}),
        (Box(BOX, seconds=0.37), {"end": 9}),
        (Box(BOX, seconds=0.4), {"end": 0.361}),
    ],
)
def test_a_prompt_outside_the_range(videos: Path, name: str, prompt: Prompt, limits: dict[str, object]) -> None:
    assert "outside the range" in refused(videos / name, prompt, **limits)


@pytest.mark.parametrize(("frame", "limits"), [(4, {}), (6, {"start": 5}), (7, {"start": 0.2})])
def test_a_prompt_off_the_stride(videos: Path, frame: int, limits: dict[str, object]) -> None:
    assert "stride 3" in refused(videos / "even.mp4", Box(BOX, frame=frame), stride=3, **limits)


@pytest.mark.parametrize(
    "limits", [{"end": 0}, {"end": 0.0}, {"start": 5, "end": 0.1}, {"start": 0.4, "end": 3}, {"start": 5, "end": 5}]
)
def test_a_range_without_frames(videos: Path, limits: dict[str, object]) -> None:
    for name in ("even.mp4", "even.mkv"):
        assert "no frame from" in refused(videos / name, Box(BOX), ConfigError, **limits)


@pytest.mark.parametrize("start", [COUNT, 500, 9.0])
def test_a_start_after_the_end(videos: Path, start: float) -> None:
    for name in ("even.mp4", "even.mkv"):
        assert re.search(
            r"\d\.\d\d s: a start before that", refused(videos / name, Box(BOX), VideoError, 3, start=start)
        )


def test_times_in_a_range_are_those_of_the_frames_tracked(videos: Path) -> None:
    for seconds, stride, expected in ((0.205, 1, 5), (0.5, 3, 11), (0.21, 1, 5)):
        with open_video(videos / "even.mp4") as video:
            (placed,) = check_prompts([Box(BOX, seconds=seconds)], video, start=0.2, end=0.7, stride=stride)
            assert (placed.frame, placed.seconds) == (expected, None)
            recorder = Recorder()
            list(track(video, [Box(BOX, seconds=seconds)], model=recorder, start=0.2, end=0.7, stride=stride))
        assert [index for index, ids in recorder.seen if ids] == [expected]


def test_a_range_within_one_frame_on_variable_rate(videos: Path) -> None:
    for name in ("uneven.mp4", "uneven.mkv"):
        with open_video(videos / name) as video:
            assert [frame.index for frame in clip(video, 0.41, 0.45)] == [6]
        with open_video(videos / name) as video:
            assert [frame.index for frame in clip(video, 0.41, 0.58)] == [6, 7]
        with open_video(videos / name) as video:
            assert [frame.index for frame in clip(video, 0.5, 1.2)] == [7, 8]


def test_prompts_that_are_not_near_the_end_read_no_table(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(self: object) -> None:
        raise AssertionError("the table is read")

    long = write_clip(tmp_path / "long.mkv", 60)
    with open_video(long) as video:
        monkeypatch.setattr(type(video), "_table", forbidden)
        assert check_prompts([Box(BOX, seconds=0.5)], video, start=0)


def test_live_sources_are_not_searched() -> None:
    with open_video(iter([np.zeros((4, 4, 3), np.uint8)] * 5), rate=Fraction(10)) as video:
        assert video.length() is None
        assert check_prompts([Box(BOX, frame=99)], video, start=0)
