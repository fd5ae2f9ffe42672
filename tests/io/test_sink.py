"""The writer: what it writes plays, in time, with sound, whatever happens."""

import errno
import logging
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from small_disk import small_disk

from samvideo.errors import ConfigError, OutputError
from samvideo.io import sink
from samvideo.io.alpha import AlphaWriter
from samvideo.io.sink import VideoWriter, reason_of
from samvideo.io.source import open_video
from tests.clips import damage, number_of, numbered, write_clip


def write(path: Path, count: int = 24, size_wh: tuple[int, int] = (128, 96), **arguments: Any) -> Path:
    with VideoWriter(path, size_wh, 25, **arguments) as writer:
        for index in range(count):
            writer.write(numbered(index, size_wh), index / 25)
    return path


def sound(path: Path) -> tuple[str, np.ndarray, float, int]:
    """Codec, loudness per millisecond, start in seconds, sampling rate of the sound in a file."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        codec = stream.codec_context.name
        frames = list(container.decode(stream))
        rate = frames[0].sample_rate
        wave = np.concatenate([frame.to_ndarray()[0] for frame in frames])
        start = float(frames[0].time)
    per = rate // 1000
    return codec, np.abs(wave[: len(wave) // per * per].reshape(-1, per)).max(1), start, rate


def left_over(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_folder_named_home_is_not_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "a.mp4").write_text("mine")
    with VideoWriter(Path("~/a.mp4"), (16, 16), 25) as writer:
        writer.write(np.zeros((16, 16, 3), np.uint8), 0)
    assert (tmp_path / "~" / "a.mp4").stat().st_size > 100
    assert (tmp_path / "home" / "a.mp4").read_text() == "mine"


def test_is_what_it_says(tmp_path: Path) -> None:
    path = write(tmp_path / "new" / "out.mp4")
    with open_video(path) as source:
        frames = list(source)
        assert [number_of(frame.rgb) for frame in frames] == list(range(24))
        assert [frame.seconds for frame in frames] == pytest.approx([k / 25 for k in range(24)])
        assert source.info.duration == pytest.approx(24 / 25)
        assert source.info.rate == 25
        assert (source.info.codec, source.info.frame_count) == ("h264", 24)
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert context.pix_fmt == "yuv420p"
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert b"moof" not in data
    assert not left_over(path.parent)


@pytest.mark.parametrize("colour", [(200, 90, 40), (10, 240, 10), (20, 30, 250), (255, 255, 255), (0, 0, 0)])
def test_colours_come_back(colour: tuple[int, int, int], tmp_path: Path) -> None:
    picture = np.full((64, 64, 3), colour, np.uint8)
    with VideoWriter(tmp_path / "out.mp4", (64, 64), 25) as writer:
        writer.write(picture, 0)
    rgb = next(iter(open_video(tmp_path / "out.mp4"))).rgb
    assert np.abs(rgb.astype(int) - picture).max() <= 4


@pytest.mark.parametrize("size_wh", [(1, 1), (1, 7), (3, 2), (129, 97), (128, 97), (16, 16)])
def test_any_size(size_wh: tuple[int, int], tmp_path: Path) -> None:
    width, height = size_wh
    picture = np.full((height, width, 3), (200, 90, 40), np.uint8)
    with VideoWriter(tmp_path / "out.mp4", size_wh, 25) as writer:
        for index in range(3):
            writer.write(picture, index / 25)
    frames = list(open_video(tmp_path / "out.mp4"))
    assert [frame.size_wh for frame in frames] == [(width + width % 2, height + height % 2)] * 3
    assert np.abs(frames[2].rgb.astype(int) - (200, 90, 40)).max() <= 6  # the edge too: repeated, not black


def test_8k(tmp_path: Path) -> None:
    path = write(tmp_path / "out.mp4", 1, (7680, 4320))
    assert next(iter(open_video(path))).size_wh == (7680, 4320)


def test_views_are_written(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", (128, 96), 25) as writer:
        writer.write(numbered(5)[:, ::-1][:, ::-1], 0)
    assert number_of(next(iter(open_video(tmp_path / "out.mp4"))).rgb) == 5


def test_variable_rate_and_start(tmp_path: Path) -> None:
    times = [7.0, 7.01, 7.05, 7.5, 9.0, 9.04]
    with VideoWriter(tmp_path / "out.mp4", (128, 96), Fraction(30000, 1001)) as writer:
        for index, seconds in enumerate(times):
            writer.write(numbered(index), seconds)
    frames = list(open_video(tmp_path / "out.mp4"))
    assert [frame.seconds for frame in frames] == pytest.approx([t - 7 for t in times], abs=2e-5)


def test_times_that_do_not_advance_still_play(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", (128, 96), 25) as writer:
        for index, seconds in enumerate([0.0, 0.0, 0.1, 0.05, 0.2]):
            writer.write(numbered(index), seconds)
    assert [number_of(frame.rgb) for frame in open_video(tmp_path / "out.mp4")] == list(range(5))


@pytest.mark.parametrize("name", ["2024-11-14T22:57:44.mp4", "a:b.mp4", "http:x.mp4"])
def test_a_colon_in_a_name_is_no_protocol(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = write_clip(tmp_path / "source.mp4", 10, audio="aac").rename(tmp_path / f"s{name}")
    assert sound(write(tmp_path / name, 10, audio_from=source.name))[0] == "aac"
    with AlphaWriter(Path(name).with_suffix(".mov"), (16, 16), Fraction(25)) as writer:
        writer.write(np.zeros((16, 16, 4), np.uint8), 0)
    assert len(list(open_video(Path(name).with_suffix(".mov")))) == 1


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".webm"])
@pytest.mark.parametrize("aspect", [Fraction(32, 27), Fraction(8, 9)])
def test_pictures_keep_their_shape(suffix: str, aspect: Fraction, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    if suffix == ".mp4":
        write(path, 3, pixel_aspect=aspect)
    else:
        with AlphaWriter(path, (128, 96), Fraction(25), aspect) as writer:
            writer.write(np.full((96, 128, 4), 200, np.uint8), 0)
    with open_video(path) as source:
        width, height = source.info.size_wh
        assert width / height * source.info.pixel_aspect == pytest.approx(128 / 96 * aspect, rel=0.02)
        assert source.info.pixel_aspect == (1 if suffix == ".webm" else aspect)  # PyAV cannot tell WebM's muxer


@pytest.mark.parametrize("jump", [1e5, 1e7, 1e12, -500.0])
def test_a_jump_of_the_clock_costs_no_frame(jump: float, tmp_path: Path) -> None:
    times = [k / 25 + (jump if k >= 5 else 0) for k in range(10)]
    with VideoWriter(tmp_path / "out.mp4", (128, 96), 25) as writer:
        for index, seconds in enumerate(times):
            writer.write(numbered(index), seconds)
    with av.open(str(tmp_path / "out.mp4")) as container:
        frames = list(container.decode(video=0))
    assert [number_of(frame.to_ndarray(format="rgb24")) for frame in frames] == list(range(10))
    if jump > 0:
        assert frames[9].time - frames[5].time == pytest.approx(4 / 25, abs=1e-3)


# --- sound --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "suffix", "expected"),
    [("aac", ".mp4", "aac"), ("aac", ".ts", "aac"), ("libopus", ".mkv", "opus"), ("pcm_s16le", ".mov", "aac")],
)
def test_sound_is_copied_or_encoded_and_in_time(codec: str, suffix: str, expected: str, tmp_path: Path) -> None:
    source = write_clip(tmp_path / f"source{suffix}", 50, audio=codec)  # 2 s, the tone begins at 1 s
    path = write(tmp_path / "out.mp4", 50, audio_from=source)
    found, loudness, start, _ = sound(path)
    assert found == expected
    assert start + int(np.argmax(loudness > 0.2)) / 1000 == pytest.approx(1.0, abs=0.05)
    assert start + len(loudness) / 1000 == pytest.approx(2.0, abs=0.06)
    assert len(list(open_video(path))) == 50


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_sound_is_cut_to_what_was_written(codec: str, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "source.mov", 50, audio=codec)
    path = tmp_path / "out.mp4"
    with VideoWriter(path, (128, 96), 25, audio_from=source) as writer:
        for index in range(15, 40):
            writer.write(numbered(index), index / 25)
    _, loudness, start, _ = sound(path)
    assert start + int(np.argmax(loudness > 0.2)) / 1000 == pytest.approx(0.4, abs=0.05)
    assert start + len(loudness) / 1000 == pytest.approx(1.0, abs=0.08)
    with open_video(path) as written:
        assert written.info.duration == pytest.approx(1.0)


@pytest.mark.parametrize("trouble", ["missing", "text", "silent"])
def test_trouble_with_sound_never_costs_the_video(
    trouble: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "source.mp4"
    if trouble == "text":
        source.write_text("no sound here")
    elif trouble == "silent":
        write_clip(source, 5)
    with caplog.at_level(logging.WARNING, "samvideo"):
        path = write(tmp_path / "out.mp4", audio_from=source)
    assert len(list(open_video(path))) == 24
    assert ("without the audio" in caplog.text) == (trouble != "silent")
    assert not left_over(tmp_path)


def test_sound_of_an_unknown_codec_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = write_clip(tmp_path / "phone.mov", 5, audio="aac")
    data = source.read_bytes()
    source.write_bytes(data.replace(b"mp4a", b"apac").replace(b"esds", b"xsds"))
    with caplog.at_level(logging.WARNING, "samvideo"):
        path = write(tmp_path / "out.mp4", 5, audio_from=source)
    assert len(list(open_video(path))) == 5
    assert "without the audio" in caplog.text


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_broken_sound_costs_no_video(codec: str, tmp_path: Path) -> None:
    source = damage(write_clip(tmp_path / "source.mov", 50, audio=codec), 0.4, 0.5)
    path = write(tmp_path / "out.mp4", 50, audio_from=source)
    assert len(list(open_video(path))) == 50
    with av.open(str(path)) as container:
        assert float(container.streams.audio[0].duration * container.streams.audio[0].time_base) > 1.8


@pytest.mark.parametrize("count", [10, 90])
def test_sound_may_be_longer_or_shorter(count: int, tmp_path: Path) -> None:
    path = write(tmp_path / "out.mp4", count, audio_from=write_clip(tmp_path / "source.mp4", 50, audio="aac"))
    assert len(list(open_video(path))) == count
    _, loudness, start, _ = sound(path)
    assert start + len(loudness) / 1000 == pytest.approx(min(count, 50) / 25, abs=0.08)


# --- trouble ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_error_in_the_middle_leaves_a_finished_file(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"

    def interrupted() -> None:
        with VideoWriter(path, (128, 96), 25) as writer:
            for index in range(10):
                writer.write(numbered(index), index / 25)
            raise error

    with pytest.raises(error):
        interrupted()
    assert [number_of(frame.rgb) for frame in open_video(path)] == list(range(10))
    assert not left_over(tmp_path)


def test_killed_program_leaves_playable_fragments(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "out.mp4", (128, 96), 25)
    for index in range(200):
        writer.write(numbered(index), index / 25)
    crashed = tmp_path / "crashed.mp4"
    crashed.write_bytes((tmp_path / "out.mp4").read_bytes())
    frames = list(open_video(crashed))
    assert len(frames) >= 198
    assert [frame.seconds for frame in frames] == pytest.approx([k / 25 for k in range(len(frames))])
    assert [number_of(frame.rgb) for frame in frames] == list(range(len(frames)))
    writer.close()


def test_full_disk_is_told_and_what_was_written_plays(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    writer = VideoWriter(path, (128, 96), 10)

    def fill() -> None:
        rng = np.random.default_rng(0)
        for index in range(500):
            noise = rng.integers(0, 60, (96, 128, 3), dtype=np.uint8)
            writer.write(numbered(index % 256) // 255 * 190 + noise, index / 10)

    with small_disk(400_000):
        with pytest.raises(OutputError, match=r"disk full"):
            fill()
        with suppress(OutputError):  # there may be room for the ordinary file, which is smaller than the fragments
            writer.close()
        writer.close()
    frames = list(open_video(path))
    assert 20 < len(frames) < 500
    assert [number_of(frame.rgb) for frame in frames] == list(range(len(frames)))
    assert not left_over(tmp_path)


def test_no_room_for_the_last_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sink, "_assemble", full)
    with pytest.raises(OutputError, match=r"what was written plays.*No space left"):
        write(tmp_path / "out.mp4", 30)
    assert [number_of(frame.rgb) for frame in open_video(tmp_path / "out.mp4")] == list(range(30))


def test_a_file_is_kept_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = write(tmp_path / "out.mp4", 3)
    with open_video(path) as source, VideoWriter(path, (128, 96), 25) as writer:
        for frame in source:
            writer.write(numbered(frame.index + 10), frame.seconds)
            assert len(list(open_video(path))) == 3
    assert [number_of(frame.rgb) for frame in open_video(path)] == [10, 11, 12]
    assert not left_over(tmp_path)


@pytest.mark.parametrize(
    ("number", "full"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EFBIG, True), (errno.EROFS, False)]
)
def test_only_a_full_disk_is_called_full(number: int, full: bool) -> None:
    text = reason_of(OSError(number, "reason"), "check the folder")
    assert text == ("reason; is the disk full?" if full else "reason; check the folder")


def test_nothing_plays_where_nothing_was_written(tmp_path: Path) -> None:
    with small_disk(900):
        writer = VideoWriter(tmp_path / "out.mp4", (128, 96), 25)
        with pytest.raises(OutputError, match="disk full"):
            for index in range(5):
                writer.write(numbered(index), index / 25)
        with pytest.raises(OutputError, match="nothing of it could be written"):
            writer.close()
    assert list(tmp_path.iterdir()) == []


def test_unwritable_place(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        VideoWriter(tmp_path / "file" / "out.mp4", (128, 96), 25)


def test_no_frames_no_file(tmp_path: Path) -> None:
    write(tmp_path / "out.mp4", 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "size_wh", "rate"), [("a.avi", (8, 8), 25), ("a.mp4", (0, 8), 25), ("a.mp4", (8, 8), 0)]
)
def test_wrong_arguments(name: str, size_wh: tuple[int, int], rate: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected"):
        VideoWriter(tmp_path / name, size_wh, rate)
    assert list(tmp_path.iterdir()) == []


def test_wrong_frame_and_closed(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4", (128, 96), 25) as writer:
        for bad in (numbered(0, (96, 128)), numbered(0).astype(np.float32), numbered(0)[..., 0]):
            with pytest.raises(ConfigError, match="expected"):
                writer.write(bad, 0)
        writer.write(numbered(0), 0)
    writer.close()
    with pytest.raises(OutputError, match="closed"):
        writer.write(numbered(1), 1)


def test_quality_setting_counts(tmp_path: Path) -> None:
    fine, coarse = (write(tmp_path / f"{crf}.mp4", crf=crf).stat().st_size for crf in (5, 40))
    assert fine > 1.5 * coarse
