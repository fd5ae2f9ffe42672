"""The command and its server on loopback: signals, clients that vanish, uploads that stall."""

import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs samvideo[serve]")
pytest.importorskip("httpx", reason="FastAPI's test client needs httpx")

from page_helpers import wait_until
from server_caller import Caller
from serving_client import FRAMES, TOKEN, png

from samvideo.errors import ConfigError, SamVideoError
from samvideo.serving.limits import Limits
from samvideo.serving.server import ApiServer, ServerSettings, serve
from samvideo.trackers.flow import FlowTracker
from samvideo.web.server import Server, listen
from tests.clips import write_clip


@contextmanager
def running(limits: Limits | None = None) -> Iterator[Caller]:
    label_studio = ("http://127.0.0.1:1", "")
    settings = ServerSettings(port=0, tokens=(TOKEN,), limits=limits or Limits(), label_studio=label_studio)
    with ApiServer({"flow": FlowTracker}, settings) as server:
        yield Caller(server.address, TOKEN)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", FRAMES * 20)


def test_the_command_ends_with_its_streams_on_sigterm(clip: Path) -> None:
    command = [sys.executable, "-m", "samvideo", "serve", "--models", "flow", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            address = re.findall(r"http://[\d.:]+", process.stderr.readline())[0]
            token = process.stderr.readline().split()[-1]
            caller = Caller(address, token)
            at = caller.prompted(clip)
            stream = caller.send("POST", f"{at}/propagate")
            assert stream.readline() == b"event: frame\n"
            process.send_signal(signal.SIGTERM)
            last = stream.read().decode().strip().split("\n\n")[-1]
            assert last == 'event: end\ndata: {"reason": "shutdown"}'
            assert process.wait(60) == 0
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()


def test_a_client_that_vanishes_leaves_its_session_usable(clip: Path) -> None:
    with running() as caller:
        at = caller.prompted(clip)
        body = json.dumps({}).encode()
        with socket.create_connection(tuple(caller.place.split(":"))) as gone:  # type: ignore[arg-type]
            gone.sendall(caller.head("POST", f"{at}/propagate", len(body)) + body)
            assert gone.recv(1000)
        wait_until(lambda: caller.send("POST", f"{at}/step").status == 200, 30)
        before = caller.ask("GET", at)["frame"]
        assert caller.ask("POST", f"{at}/step")["index"] == before + 1  # no frame is left out


def test_closing_a_session_ends_its_propagation(clip: Path) -> None:
    with running() as caller:
        at = caller.prompted(clip)
        stream = caller.send("POST", f"{at}/propagate")
        stream.readline()
        caller.ask("DELETE", at)
        assert "was closed" in stream.read().decode().strip().split("\n\n")[-1]
        assert caller.health() == 0


def test_an_upload_that_stalls_is_given_up(clip: Path) -> None:
    with running(Limits(body_seconds=0.3)) as caller:
        at = f"/sessions/{caller.ask('POST', '/sessions')['id']}"
        with socket.create_connection(tuple(caller.place.split(":"))) as slow:  # type: ignore[arg-type]
            slow.sendall(caller.head("PUT", f"{at}/video", 1000) + b"some")
            assert b" 408 " in slow.recv(4096).split(b"\r\n")[0]
        caller.ask("PUT", f"{at}/video", clip.read_bytes())


@pytest.mark.parametrize("way", ["too much", "late", "gone"])
def test_an_upload_that_fails_keeps_no_space(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    limits = Limits(upload_bytes=1000, body_seconds=0.5 if way == "late" else 30)
    with running(limits) as caller:
        at = f"/sessions/{caller.ask('POST', '/sessions')['id']}"
        with socket.create_connection(tuple(caller.place.split(":"))) as slow:  # type: ignore[arg-type]
            head = caller.head("PUT", f"{at}/video", 0).replace(b"content-length: 0", b"transfer-encoding: chunked")
            slow.sendall(head + b"4\r\nsome\r\n")
            wait_until(lambda: any(tmp_path.glob("*/video")), 10)
            if way == "too much":
                slow.sendall(b"400\r\n" + b"x" * 1024 + b"\r\n")
            if way == "gone":
                slow.close()
            wait_until(lambda: not any(tmp_path.rglob("video")), 10)
        assert caller.health() == 1


@pytest.mark.parametrize("path", ["/sessions", "{at}/prompts", "{at}/step", "/label-studio/predict"])
def test_a_json_body_that_stalls_is_given_up(path: str) -> None:
    with running(Limits(body_seconds=0.3)) as caller:
        at = f"/sessions/{caller.ask('POST', '/sessions')['id']}"
        with socket.create_connection(tuple(caller.place.split(":")), 10) as slow:  # type: ignore[arg-type]
            slow.sendall(caller.head("POST", path.format(at=at), 20) + b"{")
            answer = slow.recv(4096)
            assert b" 408 " in answer.split(b"\r\n")[0]
            assert b"no more of the body came for 0.3 s" in answer + slow.recv(4096)
        assert caller.health() == 1
        assert 'status="408"} 1.0' in caller.send("GET", "/metrics").read().decode()


def test_the_body_of_one_frame_is_received_at_a_time_and_one_that_stalls_is_given_up() -> None:
    with running(Limits(body_seconds=1, idle_seconds=30)) as caller:
        at, other = (f"/sessions/{caller.ask('POST', '/sessions')['id']}" for _ in range(2))
        place: Any = tuple(caller.place.split(":"))
        with socket.create_connection(place) as slow, socket.create_connection(place) as second:
            slow.sendall(caller.head("POST", f"{at}/frames", 1000) + b"some")
            time.sleep(0.3)
            second.sendall(caller.head("POST", f"{at}/frames", 1000))  # refused before anything of it comes
            assert b" 409 " in second.recv(4096).split(b"\r\n")[0]
            caller.ask("POST", f"{other}/frames", png(FRAMES[0]))
            assert b" 408 " in slow.recv(4096).split(b"\r\n")[0]
        caller.ask("POST", f"{at}/frames", png(FRAMES[0]))


def test_a_session_is_closed_while_the_body_of_a_frame_comes() -> None:
    with running() as caller:
        at, body = f"/sessions/{caller.ask('POST', '/sessions')['id']}", png(FRAMES[0])
        with socket.create_connection(tuple(caller.place.split(":"))) as slow:  # type: ignore[arg-type]
            slow.sendall(caller.head("POST", f"{at}/frames", len(body)) + body[:10])
            time.sleep(0.2)
            caller.ask("DELETE", at)
            assert caller.health() == 0
            slow.sendall(body[10:])
            assert b" 404 " in slow.recv(4096).split(b"\r\n")[0]


def test_sessions_take_turns(clip: Path) -> None:
    with running() as caller:
        first, second = caller.prompted(clip), caller.prompted(clip)
        stream = caller.send("POST", f"{first}/propagate")
        stream.readline()
        begin = time.monotonic()
        caller.ask("POST", f"{second}/step")
        assert caller.ask("GET", first)["frame"] < len(FRAMES) * 20 - 1, time.monotonic() - begin
        stream.close()


@pytest.mark.parametrize("tokens", [("short",), ("with a blank in it",), ("näher-betrachtet-nicht",)])
def test_unusable_tokens(tokens: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="printable characters"):
        ApiServer({"flow": FlowTracker}, ServerSettings(port=0, tokens=tokens))


async def unable(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no memory"})


@pytest.mark.logs_errors
def test_a_server_that_cannot_start_is_told() -> None:
    listener = listen("127.0.0.1", 0)
    with pytest.raises(ConfigError, match="cannot be started"), Server(unable, listener, lifespan="on"):
        pass
    assert listener.fileno() == -1


def test_the_command_ends_with_its_server() -> None:
    def end(server: ApiServer) -> None:
        server._server.should_exit = True  # as by a fault

    with pytest.raises(SamVideoError, match="internal error"):
        serve({"flow": FlowTracker}, ServerSettings(port=0, tokens=(TOKEN,)), end)
