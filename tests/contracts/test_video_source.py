"""What every reader promises, run over all of them."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from samvideo.errors import VideoError
from samvideo.io.source import VideoSource, open_video
from tests.clips import number_of, numbered, write_clip

COUNT = 24
Opener = Callable[[], VideoSource]


@pytest.fixture(scope="module")
def clip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """B-frames and several groups of pictures."""
    options = {"bf": "3", "g": "10", "x264-params": "b-adapt=0"}
    return write_clip(tmp_path_factory.mktemp("contract") / "clip.mp4", COUNT, options=options)


@pytest.fixture(scope="module")
def pictures(clip_path: Path) -> list[np.ndarray]:
    with open_video(clip_path) as source:
        return [frame.rgb for frame in source]


@pytest.fixture(scope="module")
def folder(pictures: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images")
    for index, rgb in enumerate(pictures):
        cv2.imwrite(str(path / f"{index}.png"), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    return path


@pytest.fixture(params=["stream", "decord", "images", "arrays"])
def opener(request: pytest.FixtureRequest, clip_path: Path, folder: Path, pictures: list[np.ndarray]) -> Opener:
    if request.param == "decord":
        pytest.importorskip("decord")
    return {
        "stream": lambda: open_video(clip_path),
        "decord": lambda: open_video(clip_path, reader="decord"),
        "images": lambda: open_video(folder, rate=25),
        "arrays": lambda: open_video(pictures, rate=25),
    }[request.param]


@pytest.fixture
def source(opener: Opener) -> Iterator[VideoSource]:
    with opener() as opened:
        yield opened


def test_is_a_video_source_and_knows_its_facts(source: VideoSource) -> None:
    assert isinstance(source, VideoSource)
    assert source.info.size_wh == (128, 96)
    assert source.info.rate == Fraction(25)
    assert source.info.frame_count == source.length() == COUNT
    assert (source.info.pixel_aspect, source.info.live) == (1, False)
    assert source.info.duration == pytest.approx(COUNT / 25)
    assert source.info.rotation == 0
    assert not source.info.has_audio


def test_streams_in_order_with_true_times(source: VideoSource) -> None:
    frames = list(source)
    assert [frame.index for frame in frames] == list(range(COUNT))
    assert [number_of(frame.rgb) for frame in frames] == list(range(COUNT))
    assert [frame.seconds for frame in frames] == pytest.approx([k / 25 for k in range(COUNT)])
    assert source.skipped == 0
    assert list(source) == []


def test_readers_agree(source: VideoSource, pictures: list[np.ndarray]) -> None:
    # measured: no difference at all; 1 leaves room for another libswscale
    for frame in source:
        assert cv2.absdiff(frame.rgb, pictures[frame.index]).max() <= 1


def test_seek_gives_the_very_frame(source: VideoSource, opener: Opener) -> None:
    with opener() as other:
        streamed = list(other)
    order = np.random.default_rng(0).permutation(COUNT)
    for index in [COUNT - 1, 0, *order]:
        source.seek(int(index))
        frame = next(iter(source))
        assert frame.index == index
        assert frame.seconds == streamed[index].seconds
        assert np.array_equal(frame.rgb, streamed[index].rgb)


def test_iteration_goes_on_where_it_stands(source: VideoSource) -> None:
    seen = []
    for frame in source:
        seen.append(frame.index)
        if frame.index == 3 and seen.count(3) == 1:
            source.seek(1)
        if len(seen) == 8:
            break
    assert seen == [0, 1, 2, 3, 1, 2, 3, 4]
    assert next(iter(source)).index == 5


def test_the_frame_shown_at_a_time(source: VideoSource) -> None:
    next(iter(source))
    times = [(0, 0), (0.039, 0), (0.04, 1), (0.41, 10), (0.4395, 11), (0.4385, 10), (0.92, 23), (0.959, 23)]
    assert [(time, source.index_at(time)) for time, _ in times] == times
    assert [source.index_at(time) for time in (0.96, 3.0, 1e9)] == [COUNT] * 3
    assert source.length() == COUNT
    assert next(iter(source)).index == 1


@pytest.mark.parametrize("index", [-1, COUNT, 10_000])
def test_no_such_frame(source: VideoSource, index: int) -> None:
    with pytest.raises(VideoError, match=f"no frame {index}"):
        source.seek(index)
    assert next(iter(source)).index == 0


def test_close_twice_and_no_reading_after(opener: Opener) -> None:
    source = opener()
    next(iter(source))
    source.close()
    source.close()
    with pytest.raises(VideoError, match="closed"):
        next(iter(source))


def test_frames_outlive_the_source(opener: Opener) -> None:
    with opener() as source:
        kept = [frame for frame in source if frame.index in (0, 7)]
    assert [number_of(frame.rgb) for frame in kept] == [0, 7]


def test_numbers_survive_the_blocks() -> None:
    assert [number_of(numbered(k)) for k in range(256)] == list(range(256))
