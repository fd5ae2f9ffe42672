"""`samvideo track` killed or cut off: nothing that was done is lost, and `--resume` ends as an unbroken run."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from runs_made import check_same_files
from slow_command import slow_command
from small_disk import small_disk
from typer.testing import CliRunner

from samvideo.cli.main import app
from samvideo.evaluation.files import read_index_png
from samvideo.io.locks import folder_lock
from samvideo.io.tracks import TracksFile
from samvideo.run_folder import RESUME
from tests.clips import write_clip

FRAMES = 30
BOX = "box=20,52,60,90"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", FRAMES, audio="aac")


def arguments(clip: Path, out: Path, *more: str) -> list[str]:
    return ["track", str(clip), "-p", BOX, "--model", "flow", "-q", "-o", str(out), *more]


def call(clip: Path, out: Path, *more: str, code: int = 0) -> str:
    """Run the command here; return what it says."""
    done = CliRunner().invoke(app, arguments(clip, out, *more))
    assert done.exit_code == code, done.output
    return done.output


def whole(clip: Path, out: Path) -> Path:
    call(clip, out)
    return out


def kill(ready: Callable[[], bool], delay: float, clip: Path, out: Path, *more: str) -> None:
    """Start the command, and kill it `delay` seconds after it is `ready`."""
    command = [sys.executable, "-c", slow_command(), *arguments(clip, out, *more)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        end = time.monotonic() + 60
        while not ready() and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(delay)
        process.kill()
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL


def masks_of(out: Path) -> list[Path]:
    return sorted((out / "masks").glob("*.png"))


def check_kept(out: Path) -> None:
    """Everything in the folder of a killed run is whole."""
    assert json.loads((out / "run.json").read_text())["status"] == "running"
    for path in masks_of(out):
        assert read_index_png(path).shape == (96, 128)
    for number, frame in enumerate(TracksFile(out / "tracks.jsonl")):
        assert frame.index == number
    json.loads((out / "tracks.json").read_text())
    rows = (out / "tracks.csv").read_text().split("\n")
    assert all(row.count(",") == 11 for row in rows[:-1])


def kill_until_done(clip: Path, out: Path, kills: int, seed: int) -> None:
    """Kill a run at random moments, each a little later than the one before, and resume it to its end."""
    chance = random.Random(seed)
    kept = 0
    for number in range(kills):
        target = (number + chance.random()) * (FRAMES - 4) / kills
        again = ("--resume",) if kept else ("--overwrite",)
        kill(partial(_reached, out, target), chance.random() / 20, clip, out, *again)
        check_kept(out)
        assert len(masks_of(out)) >= kept
        kept = len(masks_of(out))
    call(clip, out, "--resume")


def _reached(out: Path, target: float) -> bool:
    return len(masks_of(out)) > target and (out / "tracks.csv").exists()


def test_a_killed_run_is_resumed(clip: Path, tmp_path: Path) -> None:
    reference = whole(clip, tmp_path / "whole")
    kill_until_done(clip, tmp_path / "out", kills=4, seed=0)
    check_same_files(reference, tmp_path / "out")


@pytest.mark.long
def test_runs_killed_twenty_times_are_resumed(clip: Path, tmp_path: Path) -> None:
    reference = whole(clip, tmp_path / "whole")
    for seed in range(5):
        kill_until_done(clip, tmp_path / f"out{seed}", kills=4, seed=seed + 1)
        check_same_files(reference, tmp_path / f"out{seed}")


def test_a_killed_run_is_refused_or_replaced(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    kill(partial(_reached, out, 3), 0, clip, out)
    assert "go on with --resume" in call(clip, out, code=2)
    check_kept(out)
    call(clip, out, "--end", "2", "--overwrite")
    assert len(masks_of(out)) == 2
    assert not (out / RESUME).exists()


def test_a_second_run_into_the_folder_is_refused(clip: Path, tmp_path: Path) -> None:
    with folder_lock(tmp_path):
        for more in ([], ["--overwrite"]):
            assert "another samvideo process" in call(clip, tmp_path, *more, code=2)


def test_a_limit_of_file_sizes_leaves_whole_files(clip: Path, tmp_path: Path) -> None:
    """As a full disk does, which only root can make."""
    save = "--save", "masks,rle,csv"
    with small_disk(6000):
        said = call(clip, tmp_path, *save, code=5)
    assert "File too large" in said
    assert "the frames before are complete: free some space" in said
    recorded = json.loads((tmp_path / "run.json").read_text())
    assert recorded["status"] == "failed"
    lines = list(TracksFile(tmp_path / "tracks.jsonl"))
    assert 3 < len(lines) < FRAMES
    assert (tmp_path / "tracks.jsonl").read_text().endswith("}\n")
    call(clip, tmp_path, *save, "--resume")
    assert len(json.loads((tmp_path / "tracks.json").read_text())["frames"]) == FRAMES
    assert not (tmp_path / RESUME).exists()


def test_every_command_ends_at_sigterm_as_at_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from samvideo.cli.main import main; main()", "demo-clip", "--frames", "99999"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "demo.prompts.json").exists():
            time.sleep(0.05)
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=60)[1] == "interrupted\n"
    assert process.returncode == 130
    assert (tmp_path / "demo.mp4").stat().st_size > 0
