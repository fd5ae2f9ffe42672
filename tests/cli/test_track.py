"""The command as its users run it: results, and what goes wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from samvideo.cli.main import app
from samvideo.demo import demo_frames
from samvideo.io.masks import read_mask_objects
from samvideo.io.sink import VideoWriter
from samvideo.io.source import open_video
from samvideo.io.tracks import TracksFile

SIZE = 160, 96
FRAMES = 12


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with clip.mp4, clip.prompts.json and the true masks in truth/."""
    folder = tmp_path_factory.mktemp("clips")
    made = call("demo-clip", folder / "clip.mp4", "--frames", FRAMES, "--width", SIZE[0], "--height", SIZE[1],
                "--truth", folder / "truth")  # fmt: skip
    assert made.exit_code == 0, made.output
    return folder


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_choice_of_auto_is_told_after_the_checks(clips: Path) -> None:
    command = ("track", clips / "clip.mp4", "--device", "cpu", "--end", 2)
    refused = call(*command, "--prompt", "box=500,20,600,70")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    done = call(*command, "--prompt", "box=20,20,60,60")
    assert done.exit_code == 0, done.output
    assert done.stderr.count("model nano: no GPU wanted; it is fast on a CPU; choose another with --model") == 1


def test_masks_are_tracked_into_every_file(clips: Path, tmp_path: Path) -> None:
    done = call("track", clips / "clip.mp4", "--prompt", f"mask={clips / 'truth' / '00000.png'}", "--json")
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert summary["status"] == "complete"
    assert summary["frames"] == FRAMES
    assert [entry["id"] for entry in summary["objects"]] == [1, 2, 3]
    assert set(summary["seconds"]) == {"total", "decode", "track", "write"}
    out = tmp_path / "clip_tracked"
    assert summary["out"] == "clip_tracked"
    names = sorted(path.name for path in out.iterdir())
    assert names == ["masks", "overlay.mp4", "run.json", "tracks.csv", "tracks.json", "tracks.jsonl"]
    assert json.loads((out / "run.json").read_text())["status"] == "complete"
    with open_video(out / "overlay.mp4") as video:
        assert video.info.size_wh == SIZE
        assert len(list(video)) == FRAMES
    for name in ("00000.png", f"{FRAMES - 1:05d}.png"):
        found, truth = read_mask_objects(out / "masks" / name), read_mask_objects(clips / "truth" / name)
        for object_id, mask in truth.items():
            overlap = (found[object_id] & mask).sum() / (found[object_id] | mask).sum()
            assert overlap > 0.5, (name, object_id, overlap)


def test_range_stride_and_choice_of_files(clips: Path) -> None:
    prompt = "box=10,20,60,70@4"
    arguments = ("--start", "4", "--end", "0.4s", "--stride", "2", "--save", "csv,masks", "-o", "out", "--quiet")
    done = call("track", clips / "clip.mp4", "-p", prompt, *arguments)
    assert (done.exit_code, done.output) == (0, "")
    assert sorted(p.name for p in Path("out/masks").iterdir()) == ["00004.png", "00006.png", "00008.png"]
    assert not Path("out/overlay.mp4").exists()


def test_a_folder_of_images_and_a_glob(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for index, (rgb, _) in enumerate(demo_frames(4, SIZE)):
        cv2.imwrite(str(tmp_path / "pictures" / f"{index}.png"), rgb[..., ::-1])
    for source, out in (("pictures", "a"), ("pictures/*.png", "b")):
        done = call("track", source, "-p", "points=25,43", "-o", out, "--json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["frames"] == 4


def test_a_file_of_prompts(clips: Path) -> None:
    done = call("track", clips / "clip.mp4", "-p", clips / "clip.prompts.json", "--json")
    assert done.exit_code == 0, done.output
    assert [entry["id"] for entry in json.loads(done.stdout)["objects"]] == [1, 2, 3]


BOX = ("-p", "box=10,20,60,70")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.mp4", *BOX], 3, "none.mp4"),
        (["{empty}", *BOX], 3, "image"),
        (["{text}", *BOX], 3, "text.mp4"),
        (["{clip}"], 2, "give --prompt"),
        (["{clip}", "-p", "box=500,20,600,70"], 2, "outside the frame"),
        (["{clip}", "-p", "box=60,70,10,20"], 2, "no area"),
        (["{clip}", "-p", "box=nan,70,10,20"], 2, "finite"),
        (["{clip}", "-p", "box=10,10,10,20"], 2, "no area"),
        (["{clip}", "-p", "mask={small}"], 2, "the mask is 4x4, the frame 160x96"),
        (["{clip}", "-p", "box=10,20,60,70@400"], 2, f"0 to {FRAMES - 1} expected"),
        (["{clip}", "-p", "box=10,20,60,70@9s"], 2, f"0 to {FRAMES - 1} expected"),
        (["{clip}", "-p", "box=10,20,60,70#1", "-p", "box=20,20,60,70#1"], 2, "object 1 has 2 boxes"),
        (["{clip}", *BOX, "--model", "flwo"], 2, "did you mean 'flow'"),
        (["{clip}", *BOX, "--save", "gif"], 2, "cannot save 'gif'"),
        (["{clip}", *BOX, "--end", "0"], 2, "the end must come after the start"),
        (["{clip}", *BOX, "--start", "5", "--end", "0.1s"], 2, "the end must come after the start"),
        (["{clip}", *BOX, "-p", "box=10,20,60,70@3", "-p", "points=500,20@7"], 2, "outside the frame"),
        (["{clip}", *BOX, "--weights", "none.pt"], 4, "none.pt"),
        (["{clip}", *BOX, "--resume", "--overwrite"], 2, "give one of them"),
        (["{clip}", "-p", "box", "--resume"], 2, "give coordinates"),
        (["{clip}", *BOX, "--start", "soon"], 2, "cannot read the moment"),
        (["{clip}", *BOX, "--stride", "0"], 2, "--stride"),
        (["{clip}", *BOX, "-o", "{text}/out"], 5, "choose another folder"),
        (["{clip}", *BOX, "-o", "{full}"], 2, "--overwrite"),
        (["63", *BOX], 3, "camera"),
    ],
)
def test_bad_input(clips: Path, tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    places = {"clip": clips / "clip.mp4", "empty": tmp_path / "empty", "text": tmp_path / "text.mp4",
              "small": tmp_path / "small.png", "full": tmp_path / "full"}  # fmt: skip
    places["empty"].mkdir()
    places["full"].mkdir()
    (places["full"] / "notes.txt").write_text("mine")
    places["text"].write_text("This is not a video.\n" * 20)
    Image.fromarray(np.full((4, 4), 255, np.uint8)).save(places["small"])
    before = sorted(tmp_path.rglob("*"))
    done = call("track", *[argument.format(**places) for argument in arguments])
    assert done.exit_code == code, done.output
    if "never reached" not in message:
        assert sorted(tmp_path.rglob("*")) == before, "a refused command leaves nothing behind"
    assert message in " ".join(done.stderr.split())
    assert done.stdout == ""
    assert "Traceback" not in done.output


def test_an_error_on_the_way_keeps_what_was_done(clips: Path) -> None:
    done = call(
        "track",
        clips / "clip.mp4",
        "-p",
        "box=10,20,60,70#1",
        "-p",
        "box=8,20,60,70@6#1",
        "-p",
        f"box=9,20,60,70@{6 / 25}s#1",
        "--json",
    )
    assert done.exit_code == 2
    summary = json.loads(done.stdout)
    assert summary["status"] == "failed"
    assert "object 1 has 2 boxes" in summary["error"]
    assert summary["frames"] == 6
    with open_video("clip_tracked/overlay.mp4") as video:
        assert len(list(video)) == 6
    assert len(json.loads(Path("clip_tracked/tracks.json").read_text())["frames"]) == 6


def test_a_truncated_video_is_tracked_to_its_last_frame(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "long.mp4", SIZE, Fraction(25)) as writer:
        for index, (rgb, _) in enumerate(demo_frames(40, SIZE)):
            writer.write(rgb, index / 25)
    content = (tmp_path / "long.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(content[: len(content) * 6 // 10])
    done = call("track", "half.mp4", *BOX, "--json")
    assert done.exit_code == 3, done.output
    summary = json.loads(done.stdout)
    assert summary["status"] == "failed"
    assert 0 < summary["frames"] < 40
    assert len(list(Path("half_tracked/masks").iterdir())) == summary["frames"]
    with open_video("half_tracked/overlay.mp4") as video:
        assert len(list(video)) == summary["frames"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_with_valid_files(tmp_path: Path, number: signal.Signals) -> None:
    with VideoWriter(tmp_path / "long.mp4", (320, 240), Fraction(25)) as writer:
        for index, (rgb, _) in enumerate(demo_frames(25, (320, 240))):
            for repeat in range(12):
                writer.write(rgb, (12 * index + repeat) / 25)
    command = [sys.executable, "-m", "samvideo", "track", "long.mp4", "-p", "box=30,60,90,150", "--json"]
    command += ["--model", "flow"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not Path("long_tracked/masks/00008.png").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    summary = json.loads(stdout)
    assert summary["status"] == "interrupted"
    assert 8 < summary["frames"] < 300
    with open_video("long_tracked/overlay.mp4") as video:
        assert len(list(video)) == summary["frames"]
    assert len(json.loads(Path("long_tracked/tracks.json").read_text())["frames"]) == summary["frames"]


def test_a_stream_on_stdin(clips: Path) -> None:
    command = [sys.executable, "-m", "samvideo", "track", "-", *BOX, "-o", "out", "--json"]
    with (clips / "clip.mp4").open("rb") as stream:
        done = subprocess.run(command, stdin=stream, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frames"] == FRAMES


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_a_full_disk_leaves_valid_files(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        (tmp_path / "pictures").mkdir()
        for index, (rgb, _) in enumerate(demo_frames(60, SIZE)):
            cv2.imwrite(str(tmp_path / "pictures" / f"{index}.png"), rgb[..., ::-1])
        done = call("track", "pictures", *BOX, "--model", "flow", "-o", small / "out", "--save", "masks,rle,csv")
        assert done.exit_code == 5, done.output
        assert "No space left" in done.stderr
        for path in (small / "out" / "masks").iterdir():
            assert np.asarray(Image.open(path)).shape == SIZE[::-1]
        assert list(TracksFile(small / "out" / "tracks.jsonl"))
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_info(clips: Path) -> None:
    facts = json.loads(call("info", clips / "clip.mp4", "--json").stdout)
    assert (facts["width"], facts["height"], facts["rate"], facts["frame_count"]) == (*SIZE, 25.0, FRAMES)
    assert "codec        h264" in call("info", clips / "clip.mp4").stdout
    assert call("info", "none.mp4").exit_code == 3


def test_demo_clip_replaces_no_prompts_and_masks(tmp_path: Path) -> None:
    (tmp_path / "clip.prompts.json").write_text("mine")
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "00000.png").write_text("mine")
    for clip, message in (("clip.mp4", "--overwrite"), ("other.mp4", "is not empty"), ("demo", "ending in .mp4")):
        done = call("demo-clip", tmp_path / clip, "--frames", 2, "--truth", tmp_path / "truth")
        assert (done.exit_code, message in done.stderr) == (2, True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["00000.png", "clip.prompts.json", "truth"]
    assert (tmp_path / "truth" / "00000.png").read_text() == (tmp_path / "clip.prompts.json").read_text() == "mine"


def test_demo_clip_does_not_overwrite(clips: Path) -> None:
    refused = call("demo-clip", clips / "clip.mp4")
    assert refused.exit_code == 2
    assert "--overwrite" in refused.stderr


def test_version_and_help() -> None:
    assert call("--version").stdout.startswith("samvideo ")
    assert "Exit codes" in call("track", "--help").stdout
