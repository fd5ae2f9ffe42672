"""What containers state and what they hold: frames, clocks, tracks, pixels; and bytes that are damaged anywhere."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import pytest

from samvideo.errors import VideoError
from samvideo.io.source import open_video
from samvideo.types import Frame
from tests.clips import number_of, numbered, write_clip

GOP = {"bf": "2", "g": "8"}


def remux(inputs: list[Path], out: Path, *, offset: float = 0, every: int = 1, default: int | None = None) -> Path:
    """Copy the video packets of files, each to a track, `offset` seconds later; `every` 2 takes twice as long."""
    with av.open(str(out), "w") as target:
        sources = [av.open(str(path)) for path in inputs]
        tracks: list[Any] = [target.add_stream_from_template(source.streams.video[0]) for source in sources]
        for number, track in enumerate(tracks):
            track.disposition = av.stream.Disposition.default if number == default else av.stream.Disposition(0)
        for source, track in zip(sources, tracks, strict=True):
            for packet in source.demux(video=0):
                if packet.size:
                    assert packet.pts is not None
                    assert packet.dts is not None
                    assert packet.time_base
                    shift = round(offset / packet.time_base)
                    packet.pts, packet.dts = packet.pts * every + shift, packet.dts * every + shift
                    packet.stream = track
                    target.mux_one(packet)
            source.close()
    return out


def read(path: Path) -> list[Frame]:
    with open_video(path) as source:
        return list(source)


def check_seeks(path: Path, frames: list[Frame]) -> None:
    with open_video(path) as source:
        for index in [len(frames) - 1, 0, len(frames) // 2, len(frames) // 2 - 1, 1]:
            source.seek(index)
            frame = next(iter(source))
            assert (frame.index, frame.seconds) == (index, pytest.approx(frames[index].seconds))
            assert number_of(frame.rgb) == number_of(frames[index].rgb)


# --- frames that a header counts ------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".ts", ".flv", ".avi", ".h264", ".nut", ".mov"])
def test_frames_are_counted_without_decoding(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = {"codec": "libvpx-vp9", "options": {"cpu-used": "8"}} if suffix == ".webm" else {"options": GOP}
    with open_video(write_clip(tmp_path / f"clip{suffix}", 30, **codec)) as source:  # type: ignore[arg-type]
        monkeypatch.setattr(source, "_read", None)
        assert source.length() == 30


@pytest.mark.parametrize(("codec", "options"), [("mjpeg", {}), ("mpeg4", {"bf": "2", "g": "8"})])
def test_avi_with_repeated_frames(codec: str, options: dict[str, str], tmp_path: Path) -> None:
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    places = [k for k in range(40) if not 10 <= k < 20]
    pictures = [numbered(k) for k in places]
    times = [k / 25 for k in places]
    path = write_clip(
        tmp_path / "gaps.avi",
        pictures,
        codec=codec,
        options=options,
        pix_fmt=pix_fmt,
        times=times,
        time_base=Fraction(1, 25),
    )
    frames = read(path)
    assert [number_of(frame.rgb) for frame in frames] == places
    assert [frame.index for frame in frames] == list(range(30))
    assert frames[-1].seconds == pytest.approx(39 / 25, abs=0.09)  # B-frames: by the order of the packets
    with open_video(path) as source:
        assert (source.info.frame_count, source.length()) == (None, 30)
    check_seeks(path, frames)


def test_avi_at_twice_its_rate(tmp_path: Path) -> None:
    path = remux([write_clip(tmp_path / "v.avi", 12, codec="mpeg4", options=GOP)], tmp_path / "a.avi", every=2)
    frames = read(path)
    assert [number_of(frame.rgb) for frame in frames] == list(range(12))
    assert frames[-1].seconds == pytest.approx(22 / 25)


def test_an_avi_that_is_cut_off_is_told(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "v.avi", 60, codec="mjpeg", pix_fmt="yuvj420p")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VideoError, match="of 60 frames: the file is cut short"):
        read(path)


# --- clocks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"), [(500.0, 0.0), (10.0, 0.0), (0.0, 5000.0), (0.0, 90000.0), (3.0, 1.0)]
)
def test_recordings_joined_with_another_clock(
    first: float, second: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two transport streams in one file, as of a camera that restarted."""
    clip = write_clip(tmp_path / "v.mp4", 20, options=GOP)
    other = write_clip(tmp_path / "w.mp4", [numbered(k) for k in range(20, 40)], options=GOP)
    parts = [
        remux([path], tmp_path / f"{start}.ts", offset=start) for path, start in ((clip, first), (other, second))
    ]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with caplog.at_level(logging.WARNING, "samvideo"):
        frames = read(path)
    assert [number_of(frame.rgb) for frame in frames] == list(range(40))
    assert all(0 < after.seconds - before.seconds < 0.2 for before, after in pairwise(frames))
    assert "its clock jumps" in caplog.text
    check_seeks(path, frames)
    with open_video(path) as source:
        assert source.length() == 40


def test_long_gaps_of_a_time_lapse_are_kept(tmp_path: Path) -> None:
    times = [3600.0 * k for k in range(5)] + [3600.0 * 4 + 2000]
    path = write_clip(tmp_path / "v.mkv", 6, times=times)
    assert [frame.seconds for frame in read(path)] == pytest.approx(times)


# --- tracks and pixels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("default", [0, 1, None])
def test_the_track_that_players_show(default: int | None, tmp_path: Path) -> None:
    small = write_clip(tmp_path / "small.mp4", 4, size_wh=(64, 48))
    large = write_clip(tmp_path / "large.mp4", 4)
    path = remux([small, large], tmp_path / "two.mkv", default=default)
    with open_video(path) as source:  # without a default the larger one
        assert source.info.size_wh == ((64, 48) if default == 0 else (128, 96))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".ts"])
def test_pixels_that_are_not_square(suffix: str, tmp_path: Path) -> None:
    path = write_clip(tmp_path / f"v{suffix}", 10, sample_aspect_ratio=Fraction(32, 27))
    with open_video(path) as source:
        assert source.info.pixel_aspect == Fraction(32, 27)
        assert source.info.size_wh == (128, 96)


def test_a_turned_picture_turns_its_pixels(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "v.mp4", 3, sample_aspect_ratio=Fraction(2), rotate=(90, False, False))
    with open_video(path) as source:
        assert (source.info.size_wh, source.info.pixel_aspect) == ((96, 128), Fraction(1, 2))


@pytest.mark.parametrize(
    "name", ["list.txt", "list.nfo", "art.ans", "list.diz", "a.asc", "a.xb", "a.idf", "a.bin", "a.adf"]
)
def test_text_is_no_video(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("frames/00000.png\nframes/00001.png\n" * 300)
    with pytest.raises(VideoError):
        open_video(path)


# --- live sources ---------------------------------------------------------------------------------------------


@contextmanager
def serving(pieces: Any) -> Iterator[str]:
    """An address that sends JPEGs one after another, as network cameras do; `pieces` yields them."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            try:
                for jpeg in pieces():
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    self.wfile.write(head.encode() + jpeg + b"\r\n")
            except OSError:
                pass  # the reader has gone

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/camera"
        server.shutdown()


def test_a_network_camera_keeps_its_own_time() -> None:
    def pieces() -> Iterator[bytes]:
        for k in range(400):
            yield cv2.imencode(".jpg", numbered(k % 256)[..., ::-1])[1].tobytes()
            time.sleep(0.1)

    with serving(pieces) as address, open_video(address) as source:
        assert (source.info.live, source.length()) == (True, None)
        frames = iter(source)
        start = next(frames)
        begin = time.monotonic()
        later = [next(frames) for _ in range(10)][-1]
        assert start.seconds == 0
        assert later.seconds == pytest.approx(time.monotonic() - begin, abs=0.3)
        with pytest.raises(VideoError, match="live stream"):
            source.seek(0)


def test_a_named_pipe_is_read_once(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "v.ts", 24, options=GOP)
    pipe = tmp_path / "pipe.ts"
    os.mkfifo(pipe)
    code = "import sys; open(sys.argv[2], 'wb').write(open(sys.argv[1], 'rb').read())"
    with subprocess.Popen([sys.executable, "-c", code, str(clip), str(pipe)]) as writer:
        with open_video(pipe) as source:
            assert source.info.live
            assert [number_of(frame.rgb) for frame in source] == list(range(24))
            with pytest.raises(VideoError, match="pipe"):
                source.seek(0)
        assert writer.wait(10) == 0
