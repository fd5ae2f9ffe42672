"""What the server refuses: strangers, wrong states, too much of anything, and nonsense."""

import json
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("fastapi", reason="needs samvideo[serve]")
pytest.importorskip("httpx", reason="FastAPI's test client needs httpx")

from serving_client import BOX, FRAMES, OTHER, Client, png, serving

from samvideo.serving.limits import Limits
from tests.clips import write_clip


def test_without_a_token_only_health_metrics_and_the_description_are_open() -> None:
    with serving() as client:
        at = client.create()
        for given_header in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": "Basic x"},
            {"authorization": ""},
        ):
            for method, path in (("POST", "/sessions"), ("GET", at), ("GET", "/nonsense"), ("DELETE", at)):
                answer = client.http.request(method, path, headers=given_header)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
                assert "token" in answer.json()["error"]
        for path in ("/health", "/metrics", "/openapi.json"):
            assert client.http.get(path).status_code == 200


def test_a_session_exists_for_its_owner_only() -> None:
    with serving() as client:
        at = client.create()
        other = Client(client.http, client.service, OTHER)
        assert "no session" in other.ask("GET", at, 404)
        other.ask("DELETE", at, 404)
        assert other.ask("GET", "/sessions") == []
        assert [f"/sessions/{one['id']}" for one in client.ask("GET", "/sessions")] == [at]


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ({"points": [450, 100]}, "prompts.0.points is [450, 100]: a list of [x, y] expected, such as [[450, 100]]"),
        ({"points": [[450]]}, "prompts.0.points.0 has length 1: 2 expected"),
        ({"points": [[1, 2]], "labels": [3]}, "prompts.0.labels.0 is 3: it should be 0 or 1"),
        ({"box": [1, 2]}, "prompts.0.box has length 2: 4 expected"),
        ({"box": [1, 2, 3, 4, 5]}, "prompts.0.box has length 5: 4 expected"),
        ({"box": 3}, "prompts.0.box is 3: it should be a list"),
    ],
)
def test_a_malformed_prompt_is_described_by_its_place_in_the_json(prompt: dict[str, Any], said: str) -> None:
    with serving() as client:
        assert client.ask("POST", f"{client.create()}/prompts", 422, json={"prompts": [prompt]}) == said


def test_a_missing_or_broken_body_is_named() -> None:
    json_type = {"content-type": "application/json"}
    with serving() as client:
        at = f"{client.create()}/prompts"
        assert client.ask("POST", at, 422, content=b"{", headers=json_type).startswith("the body is not JSON (")
        assert client.ask("POST", at, 422) == "the body is missing: JSON expected"


def test_wrong_order(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", FRAMES)
    with serving() as client:
        stream, video, other = client.create(), client.create(), client.create()
        for path in ("step", "propagate", "prompts"):
            body = {"prompts": [{"box": BOX}]} if path == "prompts" else {}
            client.ask("POST", f"{stream}/{path}", 409, json=body)
        client.frame(stream, FRAMES[0])
        client.ask("POST", f"{stream}/propagate", 409)
        assert "create another" in client.upload(stream, clip, 409)
        client.upload(video, clip)
        client.upload(video, clip, 409)
        client.frame(video, FRAMES[0], 409)
        assert "not tracked" in client.ask("DELETE", f"{stream}/objects/3", 404)
        with client.service._sessions[other.split("/")[-1]].turn():
            assert "another request" in client.frame(other, FRAMES[0], 409)
            client.ask("POST", f"{other}/step", 409)
        client.frame(other, FRAMES[0])


def test_limits(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", FRAMES)
    limits = Limits(sessions=2, objects=2, upload_bytes=clip.stat().st_size - 1, pixels=160 * 96, json_bytes=4096)
    with serving(limits) as client:
        at = client.create()
        client.create()
        assert "2 sessions are open" in client.ask("POST", "/sessions", 429)
        assert "bytes expected" in client.upload(at, clip, 413)
        assert "160x97" in client.frame(at, np.zeros((97, 160, 3), np.uint8), 413)
        client.frame(at, FRAMES[0])
        client.box(at)
        client.box(at, (5, 5, 30, 30))
        assert "at most 2" in client.box(at, (5, 60, 30, 90), 409)
        client.box(at, (6, 6, 30, 30), object_id=2)  # a correction is not a further object
        client.ask("POST", f"{at}/prompts", 413, content=b" " * 5000, headers={"content-type": "application/json"})
    with serving(Limits(pixels=100)) as client:
        at = client.create()
        assert "at most 100 pixels" in client.upload(at, clip, 413)
        assert client.ask("GET", at)["video"] is None


@pytest.mark.parametrize(
    "text",
    [b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", b"ffconcat version 1.0\nfile clip.mp4\n", b"\0" * 999, png(FRAMES[0])],
)
def test_uploads_that_are_no_video_or_refer_to_files(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "upload").write_bytes(text)
    with serving() as client:
        assert "not a video" in client.upload(client.create(), tmp_path / "upload", 422)


def test_an_image_that_claims_to_be_huge() -> None:
    header = bytearray(png(FRAMES[0]))
    header[16:24] = (40000).to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    with serving() as client:
        at = client.create()
        assert "too large" in client.ask("POST", f"{at}/frames", 413, content=bytes(header))
        assert "not an image" in client.ask("POST", f"{at}/frames", 422, content=b"GIF89a")
        client.ask("POST", f"{at}/frames", 422, content=png(FRAMES[0])[:200])


def test_idle_sessions_expire_with_their_files(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", FRAMES)
    with serving(Limits(idle_seconds=0.3)) as client:
        at = client.create()
        client.upload(at, clip)
        (session,) = client.service._sessions.values()
        folder = session._folder
        assert folder is not None
        assert folder.exists()
        end = time.monotonic() + 20
        while client.service.health().sessions and time.monotonic() < end:
            time.sleep(0.05)
        client.ask("GET", at, 404)
        assert not folder.exists()
        assert "samvideo_sessions_expired_total 1.0" in client.http.get("/metrics").text


def test_a_server_that_ends_takes_no_sessions() -> None:
    with serving() as client:
        at = client.create()
        client.service.end()
        assert "shutting down" in client.ask("POST", "/sessions", 503)
        assert client.http.get("/health").json()["status"] == "ENDING"
        client.frame(at, FRAMES[0])  # those that are open go on until they are closed


def test_the_description_names_every_address_and_type() -> None:
    with serving() as client:
        document = client.http.get("/openapi.json").json()
    secured = {
        (path, method) for path, ways in document["paths"].items() for method in ways if "security" in ways[method]
    }
    assert ("/sessions", "post") in secured
    assert ("/health", "get") not in secured
    assert {"FrameRecord", "BoxPrompt", "SessionFacts", "Failure"} <= set(document["components"]["schemas"])
    for ways in document["paths"].values():
        assert all(way["description"] for way in ways.values())


NUMBERS = st.one_of(st.integers(), st.floats(), st.booleans(), st.none(), st.text(max_size=5))
JSON = st.recursive(
    NUMBERS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner)
)
PROMPT = st.fixed_dictionaries(
    {},
    optional={
        "box": st.lists(NUMBERS, max_size=5),
        "points": st.lists(st.lists(NUMBERS, max_size=3), max_size=3),
        "labels": st.lists(NUMBERS, max_size=3),
        "mask": st.fixed_dictionaries({"size": st.just([96, 160]) | JSON, "counts": st.text(max_size=9) | JSON})
        | JSON,
        "object_id": NUMBERS,
        "label": NUMBERS,
    },
)
BODY = st.one_of(
    st.binary(max_size=60),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.lists(PROMPT, max_size=3).map(lambda prompts: json.dumps({"prompts": prompts}).encode()),
    st.dictionaries(st.sampled_from(["frame", "steps", "stride", "model"]), NUMBERS).map(
        lambda value: json.dumps(value).encode()
    ),
)
PATHS = ("/sessions", "{at}", "{at}/frames", "{at}/video", "{at}/prompts", "{at}/step", "{at}/propagate")
PATHS += ("{at}/objects/1", "/sessions/x/step", "/", "/health/x", "/sessions/%00%ff")


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_nonsense_is_never_the_servers_fault(client: Client, data: Any) -> None:
    at = f"/sessions/{next(iter(client.service._sessions))}"
    method = data.draw(st.sampled_from(["POST", "PUT", "GET", "PATCH"]))
    path = data.draw(st.sampled_from(PATHS)).format(at=at)
    kind = data.draw(st.sampled_from(["application/json", "text/plain", "", "application/json; charset=x"]))
    query = data.draw(st.dictionaries(st.sampled_from(["index", "seconds"]), st.text(max_size=8)))
    answer = client.http.request(
        method, path, params=query, content=data.draw(BODY), headers={**client._headers, "content-type": kind}
    )
    assert answer.status_code < 500
    if answer.status_code >= 400:
        assert list(answer.json()) == ["error"]


@pytest.fixture(scope="module")
def client() -> Any:
    """One that has tracked a frame of a stream; its threads are there before the first test that uses it."""
    with serving(Limits(sessions=3)) as visitor:
        at = visitor.create()
        for _ in range(4):
            visitor.frame(at, FRAMES[0])
        together = threading.Barrier(3)
        assert len({*visitor.service._videos.map(lambda _: together.wait(10), range(3))}) == 3
        yield visitor
