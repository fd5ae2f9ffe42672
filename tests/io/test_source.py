"""`open_video` on everything it takes."""

import io
import re
import subprocess
import sys
import zlib
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image, features

from samvideo.errors import ConfigError, VideoError
from samvideo.io.images import read_rgb
from samvideo.io.source import open_video
from tests.clips import number_of, numbered, write_clip, write_images


def test_folder_in_natural_order_of_mixed_kinds(tmp_path: Path) -> None:
    names = ["1.png", "2.JPG", "10.bmp", "11.webp", "100.tif", "a1.jpeg", "a02.png", "b.tiff"]
    folder = write_images(tmp_path / "pictures", names)
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "notes.txt").write_text("x")
    (folder / ".hidden.png").write_bytes(b"x")
    with open_video(folder) as source:
        assert [number_of(frame.rgb) for frame in source] == list(range(8))
        assert (source.info.name, source.info.frame_count, source.info.codec) == ("pictures", 8, "images")


def test_glob_and_single_image(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "pictures", ["a0.png", "a1.png", "b2.png"])
    assert [number_of(f.rgb) for f in open_video(str(folder / "a*.png"))] == [0, 1]
    assert [number_of(f.rgb) for f in open_video(folder / "b2.png")] == [2]


def test_names_outside_ascii(tmp_path: Path) -> None:
    folder = tmp_path / "Bilder"
    folder.mkdir()
    coded = cv2.imencode(".png", numbered(3))[1]
    (folder / "größe 日本.png").write_bytes(coded.tobytes())
    assert number_of(next(iter(open_video(folder))).rgb) == 3


def test_grey_16_bit_and_alpha(tmp_path: Path) -> None:
    grey = np.full((8, 8), 200, np.uint8)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((8, 8, 3), 200 * 257, np.uint16))
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([grey, grey, grey, np.full_like(grey, 7)]))
    for name in ("grey", "deep", "alpha"):
        rgb = read_rgb(tmp_path / f"{name}.png")
        assert rgb.shape == (8, 8, 3)
        assert rgb.dtype == np.uint8
        assert (rgb == 200).all(), name


def animate(path: Path, count: int = 5) -> Path:
    first, *rest = (Image.fromarray(numbered(k)) for k in range(count))
    first.save(
        path, save_all=True, append_images=rest, duration=40, **({"lossless": True} if ".webp" in path.name else {})
    )
    return path


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.apng", "a.avif"])
def test_animations_are_read_as_their_frames(name: str, tmp_path: Path) -> None:
    if name.endswith(".avif") and not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    frames = list(open_video(animate(tmp_path / name)))
    assert [frame.seconds for frame in frames] == pytest.approx([k / 25 for k in range(5)])


@pytest.mark.parametrize("kind", ["gif", "avif"])
def test_animations_named_as_pictures(kind: str, tmp_path: Path) -> None:
    if kind == "avif" and not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    folder = write_images(tmp_path / "pictures", ["0.png", "1.png"])
    path = animate(folder / f"2.{kind}").rename(folder / "2.png")
    assert len(list(open_video(path))) == 5
    with pytest.raises(VideoError, match="several pictures"):
        list(open_video(folder))


@pytest.mark.parametrize("source", ["", " "])
def test_an_empty_name_is_not_the_current_folder(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path, ["0.png", "1.png"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VideoError, match="the source is"):
        open_video(source)


@pytest.mark.parametrize("name", ["a.webp", "a.tif", "a.TIFF"])
@pytest.mark.parametrize("place", ["alone", "in a folder"])
def test_pictures_of_several_are_never_read_as_one(name: str, place: str, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "pictures", ["0.png", "1.png"])
    path = animate(folder / name)
    with pytest.raises(VideoError, match=rf"{name} is a (WEBP|TIFF) of several pictures"):
        list(open_video(path if place == "alone" else folder))


def test_a_stack_of_pages_under_another_name(tmp_path: Path) -> None:
    path = animate(tmp_path / "a.tif").rename(tmp_path / "a.stk")
    with pytest.raises(VideoError, match="several pictures"):
        open_video(path)


def test_smaller_copies_in_a_tiff_are_no_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    small = Image.fromarray(numbered(9, (64, 48)))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    Image.fromarray(numbered(3)).save(path, save_all=True, append_images=[small])
    assert [number_of(frame.rgb) for frame in open_video(path)] == [3]


@pytest.mark.parametrize(
    "names",
    [["0.jpg", "0.png"], ["0.png", "0_mask.png"], ["00.jpg", "01.jpg", "mask_00.png"], ["a.jpg", "a.gt.png"]],
)
def test_pictures_and_masks_in_one_folder_are_refused(names: list[str], tmp_path: Path) -> None:
    folder = write_images(tmp_path / "pictures", names)
    for source in (folder, str(folder / "*")):
        with pytest.raises(VideoError, match="a picture and a mask"):
            open_video(source)
    assert open_video(folder / names[0]).info.frame_count == 1


def test_names_that_share_a_part_are_no_companions(tmp_path: Path) -> None:
    names = ["1.png", "1_2.png", "10.jpg", "cam_left_1.png", "cam_right_1.png", "frame-1.png", "maskulin.png"]
    assert open_video(write_images(tmp_path / "pictures", names)).info.frame_count == len(names)


def test_more_than_8_bits_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for k in range(2):
        cv2.imwrite(str(tmp_path / f"{k}.png"), np.full((8, 8, 3), 4000, np.uint16))
    assert len(list(open_video(tmp_path))) == 2
    assert caplog.text.count("cut to 8") == 1


@pytest.mark.parametrize("claim", ["size", "chunk"])
def test_a_picture_that_would_fill_the_memory(claim: str, tmp_path: Path) -> None:
    data = bytearray(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    if claim == "size":
        data[16:24] = (20000).to_bytes(4, "big") * 2
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    else:
        data[33:37] = (2**30).to_bytes(4, "big")
    (tmp_path / "0.png").write_bytes(data)
    code = (
        "import resource, sys; from samvideo import open_video\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\n"
        "try: open_video(sys.argv[1])\nexcept Exception as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "none of the 1 images" in result.stdout


@pytest.mark.parametrize("name", ["0", "007"])
def test_a_folder_or_file_of_digits_is_no_camera(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_images(tmp_path / name, ["0.png"])
    assert open_video(name).info.codec == "images"
    write_clip(tmp_path / "clip.mp4", 2).rename(folder / name)
    monkeypatch.chdir(folder)
    assert open_video(name).info.frame_count == 2


@pytest.mark.parametrize("name", ["9" * 5000, "a" * 5000, "a\0b", "~nobody-of-this-name/x", "http://[", "x://"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(VideoError):
        open_video(name)


def test_unreadable_image_is_skipped_counted_and_leaves_its_index(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_images(tmp_path / "pictures", ["0.png", "1.png", "2.png"])
    (folder / "1.png").write_bytes(b"no picture")
    with open_video(folder) as source:
        assert [(f.index, number_of(f.rgb)) for f in source] == [(0, 0), (2, 2)]
        assert source.skipped == 1
    assert "1.png cannot be read" in caplog.text


def test_no_image_readable(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"")
    with pytest.raises(VideoError, match="none of the 1 images"):
        open_video(tmp_path)


def test_image_size_change(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "pictures", ["0.png", "1.png"])
    cv2.imwrite(str(folder / "2.png"), numbered(2, (64, 48)))
    source = open_video(folder)
    frames = []
    with pytest.raises(VideoError, match=r"frame 2 .*2\.png.* from 128x96 to 64x48"):
        frames.extend(iter(source))
    source.seek(0)
    assert [next(iter(source)).index for _ in range(2)] == [0, 1]


def test_rate_of_images(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "pictures", ["0.png", "1.png", "2.png"])
    assert [f.seconds for f in open_video(folder, rate=10)] == pytest.approx([0, 0.1, 0.2])
    assert float(open_video(folder, rate=29.97).info.rate) == pytest.approx(29.97)


# --- arrays -------------------------------------------------------------------------------------------------


def test_iterator_streams_but_cannot_be_sought() -> None:
    source = open_video(numbered(k) for k in range(4))
    assert source.info.frame_count is None
    assert number_of(next(iter(source)).rgb) == 0
    with pytest.raises(VideoError, match="iterator"):
        source.seek(0)
    assert [frame.index for frame in source] == [1, 2, 3]


def test_stacked_arrays() -> None:
    assert len(list(open_video(np.stack([numbered(k) for k in range(3)])))) == 3


@pytest.mark.parametrize("bad", [[], iter(()), np.zeros((0, 4, 4, 3), np.uint8)])
def test_no_arrays(bad: object) -> None:
    with pytest.raises(VideoError, match="no arrays"):
        open_video(bad)


def test_wrong_arrays() -> None:
    with pytest.raises(ConfigError, match="uint8"):
        open_video([np.zeros((4, 4, 3))])
    with pytest.raises(VideoError, match="frame 1"):
        list(open_video([np.zeros((4, 4, 3), np.uint8), np.zeros((5, 4, 3), np.uint8)]))


# --- the rest -----------------------------------------------------------------------------------------------


def test_source_given_back(video: Path) -> None:
    with open_video(video) as source:
        assert open_video(source) is source
        with pytest.raises(ConfigError, match="rate"):
            open_video(source, rate=5)


def test_stdin(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (
        write_clip(tmp_path / "pipe.ts", 12),
        write_clip(tmp_path / "pipe.mp4", 12, mux={"movflags": "faststart"}),
    ):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(path.read_bytes())))
        with open_video("-") as source:
            assert source.info.name == "stdin"
            assert [number_of(frame.rgb) for frame in source] == list(range(12))
            with pytest.raises(VideoError, match="pipe"):
                source.seek(0)


def test_cut_off_stdin_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "pipe.mp4", 24, mux={"movflags": "faststart"})
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(path.read_bytes()[:-150])))
    frames = []
    with pytest.raises(VideoError, match=r"of 24 frames"), open_video("-") as source:
        frames.extend(iter(source))
    assert frames


@pytest.mark.parametrize("camera", [77, "77"])
def test_camera_that_is_not_there(camera: object) -> None:
    with pytest.raises(VideoError, match="camera 77"):
        open_video(camera)


def test_address_that_does_not_answer() -> None:
    with pytest.raises(VideoError, match="address"):
        open_video("http://127.0.0.1:9/clip.mp4")
    with pytest.raises(VideoError, match="address"):
        open_video("rtsp://127.0.0.1:9/live")


@pytest.mark.parametrize(
    ("source", "words"),
    [("missing.mp4", "does not exist"), ("nothing*.png", "no image matches"), (3.5, "not a video source")],
)
def test_not_there(source: object, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VideoError, match=words):
        open_video(source)


def test_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(VideoError, match="holds no images"):
        open_video(tmp_path)


def test_a_folder_of_folders_names_one(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_images(tmp_path / name, ["0.png"])
    with pytest.raises(VideoError, match=rf"it holds folders: give one, such as {re.escape(str(tmp_path / 'a'))};"):
        open_video(tmp_path)


def test_options_that_do_not_fit(video: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rate is for images"):
        open_video(video, rate=30)
    with pytest.raises(ConfigError, match="above 0"):
        open_video(video, rate=0)
    with pytest.raises(ConfigError, match="'decord'"):
        open_video(video, reader="opencv")
    with pytest.raises(ConfigError, match="video"):
        open_video(write_images(tmp_path / "p", ["0.png"]), reader="decord")


def test_names_with_colons_and_percent(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "plain.mp4", 3).rename(tmp_path / "a:b %03d [x].mp4")
    assert len(list(open_video(path))) == 3
    if find_spec("decord"):
        assert len(list(open_video(path, reader="decord"))) == 3


def test_decord_missing(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(ConfigError, match=r"pip install .samvideo\[decord\]"):
        open_video(video, reader="decord")


def test_decord_refuses_what_it_would_turn(tmp_path: Path) -> None:
    pytest.importorskip("decord")
    for rotate in [(90, False, False), (0, True, False)]:
        with pytest.raises(VideoError, match="omit reader='decord'"):
            open_video(write_clip(tmp_path / "turned.mp4", 3, rotate=rotate), reader="decord")


def test_a_closed_stdin_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(VideoError, match="stdin is closed"):
        open_video("-")
