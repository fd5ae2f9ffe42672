"""The command with replicas on a Ray cluster that it starts on this machine."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs samvideo[serve]")
pytest.importorskip("httpx", reason="FastAPI's test client needs httpx")

from page_helpers import wait_until
from server_caller import Caller
from serving_client import BOX, FLIPPED, FLIPPED_BOX, FRAMES, alone, events, png

from samvideo.trackers.flow import FlowTracker
from tests.clips import write_clip

COMMAND = "-m", "samvideo", "serve", "--models", "flow", "--port", "0", "--ray", "--replicas", "2"


def replica_of(at: str) -> str:
    return at.removeprefix("/sessions/").partition(".")[0]


def track_frames(caller: Caller, at: str, frames: list[object], box: tuple[float, ...]) -> list[object]:
    found = []
    for index, rgb in enumerate(frames):
        result = caller.ask("POST", f"{at}/frames?index={index}", png(rgb))  # type: ignore[arg-type]
        if index == 0:
            result = caller.ask("POST", f"{at}/prompts", {"prompts": [{"box": box}]})
        found.append(result)
    return found


def kill_replica(process: subprocess.Popen[str], place: int) -> None:
    import psutil

    tree = psutil.Process(process.pid).children(recursive=True)
    replicas = sorted((child for child in tree if child.name().startswith("ray::Repl")), key=lambda c: c.pid)
    assert len(replicas) == 2, [child.name() for child in tree]
    replicas[place].kill()


@pytest.mark.long
def test_replicas_on_a_cluster(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    clip = write_clip(tmp_path / "clip.mp4", FRAMES * 60)
    with subprocess.Popen([sys.executable, *COMMAND], stderr=subprocess.PIPE, text=True) as process:
        try:
            check_replicas(process, clip)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(60)
                finally:
                    process.kill()


def check_replicas(process: subprocess.Popen[str], clip: Path) -> None:
    assert process.stderr is not None
    said: list[str] = []
    while not (found := re.findall(r"serving at (http://[\d.:]+)", said[-1] if said else "")):
        said.append(process.stderr.readline())
        assert said[-1], said
    caller = Caller(found[0], process.stderr.readline().split()[-1])
    one, two = (f"/sessions/{caller.ask('POST', '/sessions')['id']}" for _ in range(2))
    assert {replica_of(one), replica_of(two)} == {"0", "1"}
    assert track_frames(caller, one, [*FRAMES], BOX) == alone(FlowTracker(), FRAMES)
    assert track_frames(caller, two, [*FLIPPED], FLIPPED_BOX) == alone(FlowTracker(), FLIPPED, FLIPPED_BOX)
    streams = {}
    for _ in range(2):
        at = caller.prompted(clip)
        streams[at] = caller.send("POST", f"{at}/propagate")
        assert streams[at].readline() == b"event: frame\n"
    assert {replica_of(at) for at in streams} == {"0", "1"}
    kill_replica(process, 0)
    ends = {at: events(stream.read().decode().split("\n\n", 1)[1])[-1] for at, stream in streams.items()}
    lost = next(at for at, (name, _) in ends.items() if name == "error")
    kept = next(at for at in streams if at != lost)
    assert ends[kept] == ("end", '{"reason": "video"}')
    wait_until(lambda: caller.send("GET", lost).status == 404, 30)
    assert "its replica has ended" in json.loads(caller.send("GET", lost).read())["error"]
    assert caller.ask("GET", kept)["frame"] == len(FRAMES) * 60 - 1

    def on_another() -> bool:
        session = caller.ask("POST", "/sessions")["id"]
        return replica_of(f"/sessions/{session}") == "2"

    wait_until(on_another, 60)
    last = caller.prompted(clip)
    stream = caller.send("POST", f"{last}/propagate")
    stream.readline()
    process.send_signal(signal.SIGTERM)
    assert events(stream.read().decode().split("\n\n", 1)[1])[-1] == ("end", '{"reason": "shutdown"}')
    assert process.wait(60) == 0
    assert "Traceback" not in process.stderr.read()
