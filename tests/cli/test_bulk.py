"""`samvideo track` of many sources in one call."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import Result
from runs_made import check_same_files
from slow_command import slow_command
from typer.testing import CliRunner

from samvideo.cli.main import app
from samvideo.evaluation.shard import run_here
from samvideo.trackers.flow import FlowTracker
from tests.clips import write_clip

FRAMES = 20
BOX = "box=20,52,60,90"
NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three clips of different lengths, each with a file of prompts."""
    folder = tmp_path_factory.mktemp("clips")
    for number, name in enumerate(NAMES):
        write_clip(folder / f"{name}.mp4", FRAMES + number)
        (folder / f"{name}.json").write_text(json.dumps([{"box": [20, 52, 60 - number, 90]}]))
    return folder


@pytest.fixture(scope="module")
def alone(clips: Path) -> Path:
    """What one call for each clip writes."""
    for name in NAMES:
        done = call(clips / f"{name}.mp4", "-p", clips / f"{name}.json", "-o", clips / "alone" / f"{name}_tracked")
        assert done.exit_code == 0, done.output
    return clips / "alone"


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def arguments(*more: object) -> list[str]:
    return ["track", "--model", "flow", *map(str, more)]


def call(*more: object) -> Result:
    return CliRunner().invoke(app, arguments(*more))


def prompts_of(clips: Path) -> tuple[object, ...]:
    return "-p", clips / "{name}.json"


def summary(done: Result) -> dict[str, dict[str, object]]:
    return {run["source"]: run for run in json.loads(done.stdout)["runs"]}


def test_a_pattern_is_tracked_as_by_single_calls(clips: Path, alone: Path) -> None:
    done = call(clips / "*.mp4", *prompts_of(clips), "--json")
    assert done.exit_code == 0, done.output
    found = summary(done)
    assert {run["status"] for run in found.values()} == {"complete"}
    assert [run["frames"] for run in found.values()] == [FRAMES, FRAMES + 1, FRAMES + 2]
    for name in NAMES:
        assert found[name]["out"] == f"{name}_tracked"
        check_same_files(alone / f"{name}_tracked", Path(f"{name}_tracked"))


def test_workers_give_the_same_files(clips: Path, alone: Path) -> None:
    done = call(*(clips / f"{name}.mp4" for name in NAMES), *prompts_of(clips), "-o", "out", "--workers", 2)
    assert done.exit_code == 0, done.output
    assert done.stderr.splitlines()[-1] == "3 of 3 complete"
    for name in NAMES:
        check_same_files(alone / f"{name}_tracked", Path("out") / f"{name}_tracked")


def test_a_video_that_fails_does_not_end_the_others(clips: Path) -> None:
    Path("b.mp4").write_text("This is no video.")
    done = call("nosuch.mp4", "b.mp4", clips / "c.mp4", "-p", BOX, "-o", "out", "--json")
    assert done.exit_code == 3
    assert [run["status"] for run in summary(done).values()] == ["failed", "failed", "complete"]
    assert "does not exist" in str(summary(done)["nosuch"]["error"])
    assert "error: b: b.mp4 cannot be opened" in done.stderr
    assert [path.name for path in Path("out").iterdir()] == ["c_tracked"]


def test_the_code_is_that_of_the_first_failure(clips: Path) -> None:
    (clips / "d.mp4").write_text("This is no video.")
    try:
        done = call(clips / "[bd].mp4", "-p", "box=500,20,600,70", "-q")
    finally:
        (clips / "d.mp4").unlink()
    assert done.exit_code == 2
    assert [line.split()[:2] for line in done.stderr.splitlines()] == [["error:", "b:"], ["error:", "d:"]]


def test_finished_videos_are_not_tracked_again(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(clips / "a.mp4", clips / "b.mp4", "-p", BOX).exit_code == 0
    again = call(clips / "[ab].mp4", "-p", BOX, "--json")
    assert again.exit_code == 2
    assert again.stderr.count("holds a complete run: --resume leaves it") == 2
    before = Path("a_tracked/run.json").read_bytes()
    done = call(clips / "*.mp4", "-p", BOX, "--resume", "--json")
    assert done.exit_code == 0, done.output
    assert [run["earlier"] for run in summary(done).values()] == [True, True, False]
    assert Path("a_tracked/run.json").read_bytes() == before
    other = call(clips / "a.mp4", clips / "b.mp4", "-p", "box=20,52,60,80", "--resume")
    assert other.exit_code == 2
    assert "a_tracked holds a complete run with other settings" in other.stderr
    monkeypatch.setattr(FlowTracker, "__init__", None)  # nothing is left to do: no model is made
    assert call(clips / "*.mp4", "-p", BOX, "--resume").exit_code == 0


def test_folders_of_images_are_tracked(clips: Path, tmp_path: Path) -> None:
    import cv2

    from samvideo.io.source import open_video

    for name in NAMES[:2]:
        (tmp_path / name).mkdir()
        with open_video(clips / f"{name}.mp4") as video:
            for frame in video:
                cv2.imwrite(str(tmp_path / name / f"{frame.index:05d}.png"), frame.rgb[..., ::-1])
    done = call("a", "b/*.png", "-p", BOX, "--json")
    assert done.exit_code == 0, done.output
    assert [run["frames"] for run in summary(done).values()] == [FRAMES, FRAMES + 1]
    assert call("b/*.png", "-p", BOX, "-o", "one").exit_code == 0
    check_same_files(Path("one"), Path("b_tracked"))
    refused = call("a/00000.png", "a/00001.png", "-p", BOX)
    assert refused.exit_code == 2
    assert "quote the pattern" in refused.stderr


@pytest.mark.parametrize("more", [("--threads", 1), ("--workers", 2), ("--workers", 2, "--threads", 1)])
def test_one_video_is_written_where_it_is_without_workers(
    clips: Path, alone: Path, more: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[int] = []
    monkeypatch.setattr("samvideo.evaluation.threads.limit_unloaded", limits.append)
    monkeypatch.setattr("samvideo.evaluation.threads.limit_loaded", limits.append)
    done = call(clips / "a.mp4", "-p", clips / "a.json", "-o", "out", *more)
    assert done.exit_code == 0, done.output
    check_same_files(alone / "a_tracked", Path("out"))
    assert limits == ([1, 1] if "--threads" in more else [])


def test_one_video_on_a_cluster(clips: Path, alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samvideo.evaluation.cluster.RayPool", lambda *given: run_here)
    done = call(clips / "a.mp4", "-p", clips / "a.json", "-o", "out", "--ray")
    assert done.exit_code == 0, done.output
    check_same_files(alone / "a_tracked", Path("out"))
    refused = call("0", "-p", BOX, "--ray")
    assert refused.exit_code == 2
    assert "track 0 without --ray" in refused.stderr


def test_videos_are_not_dropped_for_an_image_among_them() -> None:
    Path("videos").mkdir()
    for name in ("a.mp4", "b.mp4", "thumb.jpg", "videos/1.png"):
        Path(name).write_bytes(b"")
    for pattern, other in (("*", "a video, a.mp4"), ("[tv]*", "a folder, videos")):
        refused = call(pattern, "-p", BOX)
        assert refused.exit_code == 2
        assert f"{pattern} matches an image, thumb.jpg, and {other}" in " ".join(refused.stderr.split())


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        (["{clips}/a.mp4", "{clips}/./a.mp4", "-p", BOX], 2, "would both go to a_tracked"),
        (["{clips}/a.mp4", "A.mp4", "-p", BOX], 2, "would both go to A_tracked"),
        (["{clips}/a.mp4", "-", "-p", BOX], 2, "track - in a call of its own"),
        (["{clips}/a.mp4", "0", "-p", BOX], 2, "track 0 in a call of its own"),
        (["{clips}/a.mp4", "rtsp://host/b", "-p", BOX], 2, "in a call of its own"),
        (["{clips}/*.mp4", "none*.mp4", "-p", BOX], 3, "nothing matches none*.mp4"),
        (["{clips}/*.mp4", "-p", "box"], 2, "give the coordinates of --prompt box"),
        (["{clips}/*.mp4"], 2, "there is no prompt"),
        (["{clips}/*.mp4", "-p", "box=1,2,3"], 2, "cannot read the numbers"),
        (["{clips}/*.mp4", "-p", BOX, "--strip-source"], 2, "which --strip-source omits"),
        (["{clips}/*.mp4", "-p", BOX, "--resume", "--overwrite"], 2, "give one of them"),
        (["{clips}/*.mp4", "-p", BOX, "--model", "flwo", "--workers", "2"], 2, "did you mean 'flow'"),
    ],
)
def test_what_is_refused_before_the_first_video(clips: Path, given: list[str], code: int, message: str) -> None:
    done = call(*(argument.replace("{clips}", str(clips)) for argument in given))
    assert done.exit_code == code, done.output
    assert message in " ".join(done.stderr.split())
    assert not list(Path().iterdir())


def start(clips: Path, *more: object) -> subprocess.Popen[str]:
    """The slow command, as a program, so that its worker processes are slow as well."""
    Path("slow.py").write_text(slow_command(0.1))  # time to interrupt the second of two
    command = [sys.executable, "slow.py", *arguments(clips / "*.mp4", *prompts_of(clips), "-o", "out", *more)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_masks(process: subprocess.Popen[str], name: str, count: int) -> None:
    end = time.monotonic() + 60
    while len(list(Path(f"out/{name}_tracked/masks").glob("*.png"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def check_resumed(clips: Path, alone: Path, *more: object) -> dict[str, dict[str, object]]:
    done = call(clips / "*.mp4", *prompts_of(clips), "-o", "out", "--resume", "--json", *more)
    assert done.exit_code == 0, done.output
    for name in NAMES:
        check_same_files(alone / f"{name}_tracked", Path("out") / f"{name}_tracked")
    return summary(done)


def test_a_killed_call_is_resumed(clips: Path, alone: Path) -> None:
    with start(clips) as process:
        wait_for_masks(process, "b", 5)
        process.kill()
    assert [run["earlier"] for run in check_resumed(clips, alone).values()] == [True, False, False]


@pytest.mark.parametrize(("workers", "number"), [(1, signal.SIGTERM), (2, signal.SIGINT)])
def test_a_signal_ends_all_workers_after_their_frames(
    clips: Path, alone: Path, workers: int, number: signal.Signals
) -> None:
    with start(clips, "--workers", workers, "--json") as process:
        wait_for_masks(process, NAMES[workers - 1], 5)
        process.send_signal(number)
        said, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    runs = json.loads(said)["runs"]
    statuses = [run["status"] for run in runs]
    # With two workers, the first may have finished its video before the second had begun.
    assert statuses == sorted(statuses, key=("complete", "interrupted", "waiting").index)
    interrupted = [run for run in runs if run["status"] == "interrupted"]
    assert 1 <= len(interrupted) <= workers
    for run in interrupted:
        recorded = json.loads((Path(run["out"]) / "run.json").read_text())
        assert recorded["status"] == "interrupted"
        assert recorded["frames"] == run["frames"] >= 1
    check_resumed(clips, alone, "--workers", workers)


@pytest.mark.long
def test_a_worker_that_dies_goes_on_with_its_video(clips: Path, alone: Path) -> None:
    import psutil

    with start(clips, "--workers", 2) as process:
        wait_for_masks(process, "a", 5)
        child = next(c for c in psutil.Process(process.pid).children() if "spawn_main" in " ".join(c.cmdline()))
        child.kill()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "trying again" in errors
    for name in NAMES:
        check_same_files(alone / f"{name}_tracked", Path("out") / f"{name}_tracked")


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_a_ray_cluster_gives_the_same_files(clips: Path, alone: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    done = call(clips / "*.mp4", *prompts_of(clips), "-o", "out", "--workers", 2, "--ray", "--json")
    assert done.exit_code == 0, done.output
    for name in NAMES:
        check_same_files(alone / f"{name}_tracked", Path("out") / f"{name}_tracked")
