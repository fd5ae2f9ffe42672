"""Several replicas behind one address: two servers of this process, without a cluster."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("fastapi", reason="needs samvideo[serve]")
pytest.importorskip("httpx", reason="FastAPI's test client needs httpx")

from page_helpers import wait_until
from server_caller import Caller
from serving_client import BOX, FLIPPED, FLIPPED_BOX, FRAMES, OTHER, TOKEN, alone, events, png

from samvideo.errors import ConfigError
from samvideo.serving.forward import Upstream, forward
from samvideo.serving.front import Front
from samvideo.serving.limits import Limits
from samvideo.serving.replicas import FrontServer, ReplicaSettings, serve_replicas
from samvideo.serving.server import ApiServer, ServerSettings
from samvideo.trackers.flow import FlowTracker
from tests.clips import write_clip


class Fleet:
    """A front, its replicas by name, and a client."""

    def __init__(self, front: Front, caller: Caller) -> None:
        self.front, self.caller = front, caller
        self.replicas: dict[str, ApiServer] = {}

    def end(self, name: str) -> None:
        """End a replica as if it were killed; its requests are cut off when the front is notified."""
        self.front.drop(name)


@contextmanager
def fleet(limits: Limits | None = None, names: str = "01") -> Iterator[Fleet]:
    settings = ServerSettings(port=0, tokens=(TOKEN, OTHER), limits=limits or Limits())
    front = Front()
    with ExitStack() as stack:
        server = stack.enter_context(FrontServer(front, settings))
        found = Fleet(front, Caller(server.address, TOKEN))
        for name in names:
            replica = stack.enter_context(ApiServer({"flow": FlowTracker}, settings, name))
            parts = urlsplit(replica.address)
            front.add(name, (str(parts.hostname), int(parts.port or 0)))
            found.replicas[name] = replica
        yield found


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", FRAMES * 20)


def refused(caller: Caller, method: str, path: str, body: Any = None) -> tuple[int, str]:
    answer = caller.send(method, path, body)
    return answer.status, json.loads(answer.read())["error"]


def test_sessions_are_spread_and_not_mixed_up() -> None:
    with fleet() as found:
        caller = found.caller
        ids = [caller.ask("POST", "/sessions")["id"] for _ in range(4)]
        assert sorted(name[0] for name in ids) == ["0", "0", "1", "1"]
        assert {entry["id"] for entry in caller.ask("GET", "/sessions")} == set(ids)
        clips = [(FRAMES, BOX), (FLIPPED, FLIPPED_BOX)] * 2
        results: list[list[Any]] = [[] for _ in ids]
        for index in range(len(FRAMES)):
            for k, (session, (frames, box)) in enumerate(zip(ids, clips, strict=True)):
                result = caller.ask("POST", f"/sessions/{session}/frames?index={index}", png(frames[index]))
                if index == 0:
                    result = caller.ask("POST", f"/sessions/{session}/prompts", {"prompts": [{"box": box}]})
                results[k].append(result)
        for made, (frames, box) in zip(results, clips, strict=True):
            assert made == alone(FlowTracker(), frames, box)
        assert caller.health() == 4


def test_a_session_exists_on_its_replica_and_for_its_token_only() -> None:
    with fleet() as found:
        caller = found.caller
        session = caller.ask("POST", "/sessions")["id"]
        other = ("1" if session[0] == "0" else "0") + session[1:]
        assert refused(caller, "GET", f"/sessions/{other}")[0] == 404
        stranger = Caller(f"http://{caller.place}", OTHER)
        assert refused(stranger, "GET", f"/sessions/{session}")[0] == 404
        assert stranger.ask("GET", "/sessions") == []
        unknown = Caller(f"http://{caller.place}", "token-of-nobody")
        for method, path in (("GET", f"/sessions/{session}"), ("POST", "/sessions"), ("GET", "/sessions/9.abc")):
            assert refused(unknown, method, path)[0] == 401


def test_a_replica_that_ends_loses_its_sessions_only(clip: Path) -> None:
    with fleet() as found:
        caller = found.caller
        first, second = caller.prompted(clip), caller.prompted(clip)
        stream = caller.send("POST", f"{first}/propagate")
        assert stream.readline() == b"event: frame\n"
        found.end(first.split("/")[2][0])
        name, data = events(stream.read().decode().split("\n\n", 1)[1])[-1]
        assert name == "error"
        assert "replica of this session has ended" in json.loads(data)["error"]
        status, text = refused(caller, "POST", f"{first}/step")
        assert (status, "its replica has ended" in text) == (404, True)
        assert caller.ask("POST", f"{second}/step")["index"] == 1
        assert caller.ask("POST", "/sessions")["id"][0] == second.split("/")[2][0]
        found.end(second.split("/")[2][0])
        assert refused(caller, "GET", second)[0] == 503
        assert refused(caller, "POST", "/sessions")[0] == 503


class Broken(Upstream):
    """A replica whose stream of events breaks off inside one."""

    def __init__(self) -> None:
        pass

    async def send(self, event: Any) -> None:
        pass

    async def head(self) -> Any:
        return SimpleNamespace(status_code=200, headers=[(b"content-type", b"text/event-stream")])

    async def body(self) -> AsyncIterator[bytes]:
        for part in (b"event: fra", b"me\ndata: 1\n", b"\nevent: frame\nda"):
            yield part
        raise EOFError


def test_an_event_that_breaks_off_is_dropped_before_the_error() -> None:
    sent = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    scope = {"method": "POST", "headers": [], "query_string": b"", "raw_path": b"/"}
    asyncio.run(forward(Broken(), scope, receive, send))
    assert [name for name, _ in events(b"".join(sent).decode())] == ["frame", "error"]


def test_a_replica_that_does_not_answer_is_a_503_until_it_is_dropped() -> None:
    with fleet(names="0") as found, socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
        closed.close()
        found.front.add("1", ("127.0.0.1", port))
        assert refused(found.caller, "GET", "/sessions/1.abc")[0] == 503
        assert found.caller.ask("POST", "/sessions")["id"][0] == "0"
        assert found.caller.health() == 1


def test_limits_hold_through_the_front(clip: Path) -> None:
    limits = Limits(sessions=1, upload_bytes=clip.stat().st_size - 1, json_bytes=1000, body_seconds=0.3)
    with fleet(limits) as found:
        caller = found.caller
        at = f"/sessions/{caller.ask('POST', '/sessions')['id']}"
        caller.ask("POST", "/sessions")
        status, text = refused(caller, "POST", "/sessions")
        assert (status, "as many as allowed" in text) == (429, True)
        assert refused(caller, "PUT", f"{at}/video", clip.read_bytes())[0] == 413
        assert refused(caller, "POST", f"{at}/prompts", {"prompts": "x" * 1000})[0] == 413
        parts = iter([clip.read_bytes()[:1000], clip.read_bytes()[1000:]])
        assert refused(caller, "PUT", f"{at}/video", parts)[0] == 413  # in chunks, without a length
        for method, path in (("PUT", f"{at}/video"), ("POST", f"{at}/prompts"), ("POST", "/sessions")):
            with socket.create_connection(tuple(caller.place.split(":")), 10) as slow:  # type: ignore[arg-type]
                slow.sendall(caller.head(method, path, 1000) + b"some")
                assert b" 408 " in slow.recv(4096).split(b"\r\n")[0]
        assert refused(caller, "GET", "/nowhere")[0] == 404


def test_targets_that_are_no_paths_are_refused_as_by_a_single_server() -> None:
    with fleet(names="0") as found:
        for method, target in (("GET", "foo"), ("OPTIONS", "*"), ("CONNECT", "a:80"), ("GET", "?x")):
            with socket.create_connection(tuple(found.caller.place.split(":")), 10) as caller:  # type: ignore[arg-type]
                caller.sendall(found.caller.head(method, target, 0))
                assert b" 404 " in caller.recv(4096).split(b"\r\n")[0], target


def test_no_session_is_created_for_a_client_that_has_gone() -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/sessions", "method": "POST", "headers": []}
    asyncio.run(Front()(scope, receive, send))  # which has no replica, and would tell so
    assert not sent


def test_an_upload_passes_in_parts(clip: Path) -> None:
    with fleet() as found:
        at = f"/sessions/{found.caller.ask('POST', '/sessions')['id']}"
        content = clip.read_bytes()
        parts = iter([content[k : k + 1000] for k in range(0, len(content), 1000)])
        answer = found.caller.send("PUT", f"{at}/video", parts)
        assert json.loads(answer.read())["video"]["frames"] == len(FRAMES) * 20


def test_a_client_that_vanishes_leaves_its_session_usable(clip: Path) -> None:
    with fleet() as found:
        caller = found.caller
        at = caller.prompted(clip)
        with socket.create_connection(tuple(caller.place.split(":"))) as gone:  # type: ignore[arg-type]
            gone.sendall(caller.head("POST", f"{at}/propagate", 2) + b"{}")
            assert gone.recv(1000)
        wait_until(lambda: caller.send("POST", f"{at}/step").status == 200, 30)


def test_streams_end_when_the_replicas_shut_down(clip: Path) -> None:
    with fleet() as found:
        stream = found.caller.send("POST", f"{found.caller.prompted(clip)}/propagate")
        stream.readline()
        for replica in found.replicas.values():
            replica._service.end()
        assert events(stream.read().decode().split("\n\n", 1)[1])[-1] == ("end", '{"reason": "shutdown"}')
        assert refused(found.caller, "POST", "/sessions") == (503, "the server is shutting down: no new sessions")
        assert found.caller.ask("GET", "/health")["status"] == "ENDING"


def test_what_is_open_tells_of_all_replicas() -> None:
    with fleet() as found:
        for _ in range(3):
            found.caller.ask("POST", "/sessions")
        text = found.caller.send("GET", "/metrics").read().decode()
        for name, count in (("0", 2), ("1", 1)):
            assert f'samvideo_sessions_opened_total{{model="flow",replica="{name}"}} {count}.0' in text
            assert f'samvideo_sessions{{replica="{name}"}} {count}.0' in text
        assert text.count("# TYPE samvideo_sessions gauge") == 1
        assert found.caller.ask("GET", "/health") == {"status": "UP", "models": ["flow"], "sessions": 3}
        assert "/sessions/{session_id}/propagate" in found.caller.ask("GET", "/openapi.json")["paths"]


@pytest.mark.parametrize(
    ("replicas", "sessions", "message"), [(3, 64, "the cluster has places for 2"), (2, 1, "the 1 sessions")]
)
def test_more_replicas_than_there_is_room_for(
    replicas: int, sessions: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = SimpleNamespace(is_initialized=lambda: True, nodes=lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}])
    monkeypatch.setitem(sys.modules, "ray", ray)
    settings = ServerSettings(port=0, limits=Limits(sessions=sessions))
    with pytest.raises(ConfigError, match=message):
        serve_replicas({"flow": FlowTracker}, settings, ReplicaSettings(None, replicas), lambda server: None)
