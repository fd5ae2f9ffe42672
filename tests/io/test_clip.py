"""`clip`: which frames of a source are read."""

from fractions import Fraction
from pathlib import Path

import pytest

from samvideo.errors import ConfigError, VideoError
from samvideo.io.images import ImageSource
from samvideo.io.source import VideoSource, clip, open_video
from samvideo.types import Frame, VideoInfo
from tests.clips import number_of, numbered, write_clip, write_images


class Untimed(VideoSource):
    """As a live stream: it cannot seek, and knows no time before it comes."""

    def __init__(self, frames: list[Frame]) -> None:
        self.info = VideoInfo("live", (128, 96), Fraction(25))
        self._left = iter(frames)

    def _read(self) -> Frame | None:
        return next(self._left, None)

    def seek(self, index: int) -> None:
        raise VideoError("cannot seek")

    def _release(self) -> None: ...


@pytest.mark.parametrize(
    ("start", "end", "stride", "expected"),
    [
        (None, None, 1, list(range(24))),
        (3, 9, 1, [3, 4, 5, 6, 7, 8]),
        (3, 12, 4, [3, 7, 11]),
        (0.2, 0.4, 1, [5, 6, 7, 8, 9]),
        (0.21, 10, 2, [5, 7, 9]),
        (0.39, 0.41, 1, [9, 10]),
        (0.41, 0.43, 1, [10]),
        (0.959, None, 1, [23]),
        (9, 0.381, 1, [9]),
        (0.01, 1, 1, [0]),
        (20, None, 1, [20, 21, 22, 23]),
        (None, 0.08, 1, [0, 1]),
        (22, 99.0, 1, [22, 23]),
    ],
)
@pytest.mark.parametrize("kind", ["seekable", "iterator", "live"])
def test_clip(video: Path, kind: str, start: float, end: float, stride: int, expected: list[int]) -> None:
    source: VideoSource = Untimed([Frame(k, k / 25, numbered(k)) for k in range(24)])
    if kind != "live":
        source = open_video(video) if kind == "seekable" else open_video((numbered(k) for k in range(24)), rate=25)
    with source:
        frames = list(clip(source, start, end, stride))
    assert [frame.index for frame in frames] == expected
    assert [number_of(frame.rgb) for frame in frames] == expected


def test_clip_by_seconds_at_a_variable_rate(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.15, 1.0, 1.02, 1.5, 1.6, 4.0, 4.1]
    with open_video(write_clip(tmp_path / "vfr.mp4", 9, times=times)) as source:
        assert [frame.index for frame in clip(source, 1.01, 4.0)] == [3, 4, 5, 6]
    source = Untimed([Frame(k, times[k], numbered(k)) for k in range(9)])
    assert [frame.index for frame in clip(source, 1.01, 4.0)] == [3, 4, 5, 6]


@pytest.mark.parametrize("start", [24, 500, 1.0, 99.5])
def test_clip_beyond_the_end(video: Path, start: float) -> None:
    with open_video(video) as source, pytest.raises(VideoError, match="start"):
        list(clip(source, start))
    with open_video((numbered(k) for k in range(24)), rate=25) as source, pytest.raises(VideoError, match="start"):
        list(clip(source, start))


@pytest.mark.parametrize(
    ("start", "end", "stride"),
    [
        (5, 5, 1),
        (0.5, 0.1, 1),
        (-1, None, 1),
        (float("nan"), None, 1),
        (0, None, 0),
        (None, 0, 1),
        (None, 0.0, 1),
        (0, 0.0, 1),
        (5, 0.1, 1),
        (0.4, 10, 1),
    ],
)
def test_clip_that_makes_no_sense(video: Path, start: float, end: float, stride: int) -> None:
    with open_video(video) as source, pytest.raises(ConfigError):
        list(clip(source, start, end, stride))
    untimed = Untimed([Frame(k, k / 25, numbered(k)) for k in range(24)])
    with pytest.raises(ConfigError):
        list(clip(untimed, start, end, stride))


def test_clip_seeks_and_does_not_decode_what_is_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_images(tmp_path / "pictures", [f"{k}.png" for k in range(9)])
    source = open_video(folder)
    reads: list[int] = []
    plain = ImageSource._read

    def counted(self: ImageSource) -> object:
        reads.append(self._place)
        return plain(self)

    monkeypatch.setattr(ImageSource, "_read", counted)
    assert [frame.index for frame in clip(source, 7)] == [7, 8]
    assert reads == [7, 8, 9]
