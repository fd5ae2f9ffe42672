"""Videos as they come: every container trait and every kind of damage."""

import logging
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from samvideo.errors import VideoError
from samvideo.io.source import open_video
from samvideo.types import Frame
from tests.clips import cut, damage, number_of, numbered, write_clip

GOP = {"bf": "3", "g": "8"}


def read(path: Path) -> list[Frame]:
    with open_video(path) as source:
        return list(source)


def read_until_broken(path: Path) -> tuple[list[Frame], str, int]:
    """Frames, the error's text or "", the skipped pieces."""
    frames: list[Frame] = []
    with open_video(path) as source:
        try:
            frames.extend(source)
        except VideoError as error:
            return frames, str(error), source.skipped
        return frames, "", source.skipped


def noisy(count: int) -> list[np.ndarray]:
    """Numbered pictures that compress badly, so that damage hits pictures and not headers."""
    noise = np.random.default_rng(0).integers(0, 60, (count, 96, 128, 3), dtype=np.uint8)
    return [numbered(k) // 255 * 190 + noise[k] for k in range(count)]


# container or codec traits: (suffix, arguments, container counts its frames)
TRAITS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "open groups": (".mp4", {"options": {**GOP, "x264-params": "open-gop=1"}}, True),
    "every picture a key": (".mp4", {"options": {"g": "1", "bf": "0"}}, True),
    "fragments": (".mp4", {"mux": {"movflags": "frag_keyframe+empty_moov"}, "options": GOP}, False),
    "matroska": (".mkv", {"options": GOP}, False),
    "webm live": (
        ".webm",
        {"codec": "libvpx-vp9", "options": {"g": "8", "cpu-used": "8"}, "mux": {"live": "1"}},
        False,
    ),
    "transport stream": (".ts", {"options": GOP}, False),
    "no times": (".h264", {"options": GOP}, False),
    "no presentation times": (".avi", {"options": GOP}, True),
    "starts at 5 s": (".ts", {"times": [5 + k / 25 for k in range(24)], "options": GOP}, False),
    "interlaced": (".mp4", {"options": {**GOP, "x264-params": "tff=1"}}, True),
    "10 bits": (".mp4", {"pix_fmt": "yuv420p10le", "options": GOP}, True),
    "alpha": (".mov", {"codec": "qtrle", "pix_fmt": "argb"}, True),
    "odd size": (".mp4", {"size_wh": (129, 97), "pix_fmt": "yuv444p", "options": GOP}, True),
    "full range": (".mov", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}, True),
    "hdr": (".mp4", {"pix_fmt": "yuv420p10le", "colour": (9, 16, 9), "options": GOP}, True),
}


@pytest.mark.parametrize("trait", TRAITS)
def test_every_frame_streams_and_seeks(trait: str, tmp_path: Path) -> None:
    suffix, arguments, counted = TRAITS[trait]
    path = write_clip(tmp_path / f"clip{suffix}", 24, **arguments)
    with open_video(path) as source:
        frames = list(source)
        assert [number_of(frame.rgb) for frame in frames] == list(range(24))
        assert [frame.seconds for frame in frames] == pytest.approx([k / 25 for k in range(24)])
        assert source.info.frame_count == (24 if counted else None)
        assert source.info.size_wh == frames[0].size_wh == arguments.get("size_wh", (128, 96))
        for index in [23, 0, 9, 8, 7, 16, 1, 22]:
            source.seek(index)
            frame = next(iter(source))
            assert (frame.index, frame.seconds) == (index, pytest.approx(frames[index].seconds))
            assert np.array_equal(frame.rgb, frames[index].rgb), f"frame {index} differs after seek"
    with open_video(path) as fresh:
        fresh.seek(13)
        assert np.array_equal(next(iter(fresh)).rgb, frames[13].rgb)


def test_variable_rate(tmp_path: Path) -> None:
    times = [0.0, 0.01, 0.05, 0.06, 0.5, 0.52, 0.9, 1.0, 1.01, 1.02, 3.0, 3.04]
    path = write_clip(tmp_path / "vfr.mp4", 12, times=times, options=GOP)
    with open_video(path) as source:
        assert [frame.seconds for frame in source] == pytest.approx(times, abs=1e-4)
        source.seek(4)
        assert next(iter(source)).seconds == pytest.approx(0.5, abs=1e-4)


def test_negative_start_by_edit_list(tmp_path: Path) -> None:
    # mp4 stores B-frames with a shifted start, which its edit list takes back
    path = write_clip(tmp_path / "edit.mp4", 24, options=GOP)
    data = path.read_bytes()
    assert b"elst" in data
    assert read(path)[0].seconds == 0


def test_what_an_edit_list_hides_is_not_missing(tmp_path: Path) -> None:
    # A trimmed file whose player begins behind the second keyframe: FFmpeg never reads what is before that.
    path = write_clip(tmp_path / "edit.mp4", 24, options={**GOP, "bf": "0"})
    data = bytearray(path.read_bytes())
    place = data.index(b"elst") + 4
    version, entries = data[place], int.from_bytes(data[place + 4 : place + 8], "big")
    assert (version, entries) == (0, 1)
    (scale,) = (int.from_bytes(data[at + 16 : at + 20], "big") for at in [data.index(b"mdhd")])
    data[place + 12 : place + 16] = (scale * 18 // 25).to_bytes(4, "big")
    path.write_bytes(data)
    assert [number_of(frame.rgb) for frame in read(path)] == list(range(18, 24))


@pytest.mark.parametrize(
    ("degrees", "mirror_x", "mirror_y"), [(a, x, y) for a in (0, 90, 180, 270) for x, y in ((0, 0), (1, 0), (0, 1))]
)
def test_display_rotation(degrees: int, mirror_x: int, mirror_y: int, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "turned.mp4", 2, rotate=(degrees, bool(mirror_x), bool(mirror_y)))
    plain = read(write_clip(tmp_path / "plain.mp4", 2))[1].rgb
    # counter-clockwise, then mirrored as displayed: av_display_matrix_flip multiplies last
    expected = np.rot90(plain, degrees // 90)[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1]
    with open_video(path) as source:
        assert source.info.size_wh == (expected.shape[1], expected.shape[0])
        if not (mirror_x or mirror_y):
            assert source.info.rotation == -degrees % 360
        source.seek(1)
        assert np.array_equal(next(iter(source)).rgb, expected)


def test_colours_are_those_of_the_file(tmp_path: Path) -> None:
    flat = np.full((64, 64, 3), (200, 90, 40), np.uint8)
    for name, arguments in {
        "601": {},
        "10": {"pix_fmt": "yuv420p10le"},
        "full": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    }.items():
        rgb = read(write_clip(tmp_path / f"{name}.mov", [flat], **arguments))[0].rgb
        assert np.abs(rgb.astype(int) - flat).max() <= 4, name


def test_alpha_is_dropped_not_blended(tmp_path: Path) -> None:
    rgba = np.zeros((48, 64, 4), np.uint8)
    rgba[..., :3], rgba[..., 3] = (200, 90, 40), 10
    path = tmp_path / "alpha.mkv"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgra"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format="bgra")))
        container.mux(stream.encode(None))
    assert (read(path)[0].rgb == (200, 90, 40)).all()


def test_hdr_becomes_darker_than_its_codes_but_keeps_order(tmp_path: Path) -> None:
    ramp = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], 64, 0).repeat(3, 2)
    for transfer in (16, 18):
        path = write_clip(
            tmp_path / f"{transfer}.mp4",
            [ramp],
            pix_fmt="yuv420p10le",
            colour=(9, transfer, 9),
            options={"crf": "5"},
        )
        row = read(path)[0].rgb[32].astype(int).mean(1)
        assert row[0] < 10
        assert row[-1] > 250
        assert (np.diff(row) >= -4).all()


def test_interlaced_combs_are_gone(tmp_path: Path) -> None:
    # two fields of a bar that moves 8 pixels between them
    pictures = []
    for k in range(8):
        picture = np.full((96, 128, 3), 40, np.uint8)
        for field in (0, 1):
            left = 10 + 16 * (k % 4) + 8 * field
            picture[field::2, left : left + 24] = 220
        pictures.append(picture)
    options = {"x264-params": "tff=1", "crf": "8"}
    combed = read(write_clip(tmp_path / "plain.mp4", pictures, options={"crf": "8"}))[3].rgb.astype(int)
    clean = read(write_clip(tmp_path / "inter.mp4", pictures, options=options))[3].rgb.astype(int)
    assert np.abs(np.diff(clean, axis=0)).mean() < 0.3 * np.abs(np.diff(combed, axis=0)).mean()


@pytest.mark.parametrize("size_wh", [(1, 1), (2, 2)])
def test_tiny_frames(size_wh: tuple[int, int], tmp_path: Path) -> None:
    path = write_clip(
        tmp_path / "tiny.mkv",
        [np.full((size_wh[1], size_wh[0], 3), 200, np.uint8)] * 3,
        codec="ffv1",
        pix_fmt="bgr0",
    )
    frames = read(path)
    assert [frame.size_wh for frame in frames] == [size_wh] * 3
    assert (frames[2].rgb == 200).all()


def test_8k_frame(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "8k.mp4", [numbered(5, (7680, 4320))], codec="mjpeg", pix_fmt="yuvj420p")
    frame = read(path)[0]
    assert frame.size_wh == (7680, 4320)
    assert number_of(frame.rgb) == 5


def test_sound_is_noticed(tmp_path: Path) -> None:
    with open_video(write_clip(tmp_path / "sound.mp4", 5, audio="aac")) as source:
        assert source.info.has_audio


# --- bad input ----------------------------------------------------------------------------------------------


def test_truncated_mp4_gives_its_first_half_and_tells(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", noisy(40), options=GOP, mux={"movflags": "faststart"})
    frames, output, _ = read_until_broken(cut(path, 0.5))
    assert 12 <= len(frames) < 30
    assert [number_of(frame.rgb) for frame in frames[:-2]] == list(range(len(frames) - 2))
    assert f"after {len(frames)} of 40 frames" in output


def test_truncated_matroska_tells_by_its_duration(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mkv", noisy(60), options=GOP)
    frames, output, _ = read_until_broken(cut(path, 0.4))
    assert 12 <= len(frames) < 40
    assert "of 2.40 seconds" in output


def test_truncated_fragments_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_clip(tmp_path / "clip.mp4", noisy(40), options=GOP, mux={"movflags": "frag_keyframe+empty_moov"})
    with caplog.at_level(logging.WARNING, "samvideo"):
        frames, _, _ = read_until_broken(cut(path, 0.5))
    assert frames
    assert "damaged data" in caplog.text


def test_mp4_without_its_index(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="index at the front"):
        open_video(cut(write_clip(tmp_path / "clip.mp4", noisy(24)), 0.5))


@pytest.mark.parametrize(("codec", "pix_fmt", "suffix"), [("mjpeg", "yuvj420p", ".mov"), ("png", "rgb24", ".mov")])
def test_broken_packets_are_skipped_counted_and_leave_a_gap(
    codec: str, pix_fmt: str, suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = damage(write_clip(tmp_path / f"clip{suffix}", noisy(40), codec=codec, pix_fmt=pix_fmt), 0.4, 0.48)
    with open_video(path) as source, caplog.at_level(logging.WARNING, "samvideo"):
        frames = list(source)
        assert source.skipped >= 2
        assert len(frames) == 40 - source.skipped
        assert frames[-1].index == 39
        good = [frame for frame in frames if not 5 <= frame.index <= 21]
        assert [number_of(frame.rgb) for frame in good] == [frame.index for frame in good]
        source.seek(30)
        assert np.array_equal(next(iter(source)).rgb, next(f.rgb for f in frames if f.index == 30))
    assert "broken piece skipped" in caplog.text


def test_broken_predicted_video_stays_in_step(tmp_path: Path) -> None:
    path = damage(
        write_clip(tmp_path / "clip.mp4", noisy(48), options=GOP, mux={"movflags": "faststart"}), 0.4, 0.5
    )
    frames, output, skipped = read_until_broken(path)
    assert (output, skipped > 0) == ("", True)
    late = [frame for frame in frames if frame.index >= 36]
    assert len(late) >= 10
    assert [number_of(frame.rgb) for frame in late] == [frame.index for frame in late]
    assert all(before.seconds < after.seconds for before, after in pairwise(frames))


@pytest.mark.parametrize("suffix", [".ts", ".h264"])
def test_size_change_names_the_frame_and_both_sizes(suffix: str, tmp_path: Path) -> None:
    parts = [
        write_clip(tmp_path / f"{k}{suffix}", 10, size_wh=size) for k, size in enumerate([(128, 96), (160, 128)])
    ]
    path = tmp_path / f"both{suffix}"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames, output, _ = read_until_broken(path)
    assert len(frames) == 10
    assert "frame 10, from 128x96 to 160x128" in output


def test_text_named_mp4(tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("not a video, but a long enough text to be looked at\n" * 50)
    with pytest.raises(VideoError, match=r"notes\.mp4 cannot be opened as a video"):
        open_video(path)


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.mp4"
    path.touch()
    with pytest.raises(VideoError, match="empty"):
        open_video(path)


def test_zero_frames(tmp_path: Path) -> None:
    path = tmp_path / "zero.mkv"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        container.start_encoding()
    with pytest.raises(VideoError, match="zero"):
        open_video(path)


def test_nothing_but_damage(tmp_path: Path) -> None:
    path = damage(write_clip(tmp_path / "clip.mov", noisy(6), codec="png", pix_fmt="rgb24"), 0.01, 0.97)
    with pytest.raises(VideoError, match=r"no frame|cannot be opened"):
        open_video(path)


def test_sound_only(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        frame.sample_rate, frame.pts = 48000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError, match="no video track"):
        open_video(path)
