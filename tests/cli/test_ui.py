"""The command that serves the page: what it says, and what it refuses."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from page_helpers import command, request, wait_until
from typer.testing import CliRunner

from samvideo.cli.main import app
from tests.clips import write_clip


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def in_a_folder_with_a_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = call("demo-clip", "clip.mp4", "--frames", 4, "--width", 160, "--height", 96)
    assert made.exit_code == 0, made.output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.mp4", "-p", "box"], 3, "none.mp4"),
        (["clip.mp4", "-p", "box", "--start", "1"], 2, "leave --start"),
        (["clip.mp4", "-p", "box", "--save", "gif"], 2, "cannot save 'gif'"),
        (["clip.mp4", "-p", "box", "-o", "full"], 2, "--overwrite"),
        (["clip.mp4", "-p", "box", "--model", "flwo"], 2, "did you mean 'flow'"),
        (["clip.mp4", "-p", "box", "-p", "box=500,20,600,70"], 2, "outside the frame"),
        (["clip.mp4", "-p", "box", "--host", "203.0.113.1"], 2, "nothing can be served"),
        (["clip.mp4", "-p", "box", "--port", "{taken}"], 2, "choose another --port"),
        (["clip.mp4", "-p", "boxes"], 2, "cannot read the prompt"),
    ],
)
def test_what_is_refused(arguments: list[str], code: int, message: str) -> None:
    Path("full").mkdir()
    Path("full/mine.txt").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = [text.replace("{taken}", str(taken.getsockname()[1])) for text in arguments]
        done = call("track", *words, *([] if "--model" in words else ["--model", "flow"]), "--no-browser")
    assert done.exit_code == code, done.output
    assert message in " ".join(done.output.split())
    assert not Path("clip_tracked").exists()


def test_a_source_that_cannot_go_back_is_refused(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "pipe.mkv")
    line = [sys.executable, "-m", "samvideo", "track", "-", "-p", "box", "--model", "flow", "--no-browser"]
    done = subprocess.run(line, input=path.read_bytes(), capture_output=True)
    assert done.returncode == 2, done.stderr
    assert b"can go back" in done.stderr
    assert b"give coordinates" in done.stderr


def test_the_address_is_one_plain_line_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    with command(tmp_path, "ui", "clip.mp4", "--port", "18765") as run:
        assert run.address.startswith("http://127.0.0.1:18765/?token=")
        assert request(run.base, "/")[0] == 403
        run.signal(signal.SIGINT)
        assert run.ended() == 130
        assert run.said[-1] == "nothing was written"
    assert not (tmp_path / "clip_tracked").exists()


def test_prompts_with_coordinates_are_there_to_begin_with(tmp_path: Path) -> None:
    with command(tmp_path, "track", "clip.mp4", "-p", "points", "-p", "box=10,20,60,70@2#3", "--json") as run:
        _, headers, _ = request(run.base, "/?" + run.address.split("?")[1])
        cookie, origin = headers["set-cookie"].split(";")[0], run.base.rstrip("/")

        def post(path: str, **value: object) -> dict[str, object]:
            body = json.dumps(value).encode()
            answer = request(
                run.base, path, "POST", body, Cookie=cookie, Origin=origin, Content_Type="application/json"
            )
            assert answer[0] == 200, answer
            found: dict[str, object] = json.loads(answer[2])
            return found

        state = post("/api/edit", do="rename", object=3, name="it")
        assert state["annotations"] == [
            {"frame": 2, "object": 3, "box": [10, 20, 60, 70], "clicks": [], "mask": False}
        ]
        post("/api/command", kind="track", direction="both")
        wait_until(lambda: post("/api/edit", do="undo")["files"])
        post("/api/command", kind="finish")
        assert run.ended() == 0
    assert len(list((tmp_path / "clip_tracked" / "masks").iterdir())) == 4


def test_other_machines_are_warned_of(tmp_path: Path) -> None:
    with command(tmp_path, "ui", "clip.mp4", "--host", "0.0.0.0") as run:
        wait_until(lambda: any("warning: --host 0.0.0.0" in line for line in run.said))
