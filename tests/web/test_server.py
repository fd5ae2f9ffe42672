"""Strangers, forged requests and nonsense, against the real server."""

import asyncio
import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from page_helpers import request, wait_until
from page_site import Site, serve_page, source
from starlette.requests import Request

from samvideo.errors import ConfigError, PromptError
from samvideo.segmenters.grabcut import GrabCutSegmenter
from samvideo.trackers.flow import FlowTracker
from samvideo.web import connections
from samvideo.web.app import _refuse
from samvideo.web.guard import Guard
from samvideo.web.messages import encode
from samvideo.web.project import Project
from samvideo.web.server import listen


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serve_page() as served:
        yield served


PATHS = ["/", "/static/main.js", "/api/facts", "/api/events", "/api/frames/0", "/api/masks/0", "/api/files/csv"]


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_nothing_is_sent(site: Site, path: str) -> None:
    for headers in (
        {},
        {"Cookie": site.cookie[:-1]},
        {"Cookie": site.cookie.split("=")[0] + "=x"},
        {"Cookie": "%%;="},
    ):
        status, _, body = request(site.base, path, **headers)
        assert status == 403
        assert b"token" in body
    for query in ("token=", "token=wrong", "token=%00", "a=1&" * 99):
        assert request(site.base, f"{path}?{query}")[0] == 403
    assert request(site.base, "/api/edit", "POST", b"{}", Origin=f"http://{site.host}")[0] == 403
    # The token alone, without the cookie, changes nothing either.
    assert request(site.base, f"/api/edit?{site.query}", "POST", b"{}", Origin=f"http://{site.host}")[0] == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[", "10.0.0.1", "a b"]
)
def test_another_name_for_this_machine_is_refused(site: Site, host: str) -> None:
    assert site.get("/", Host=host)[0] in (400, 403)
    assert request(site.base, f"/?{site.query}", Host=host)[0] in (400, 403)


def test_a_tunnel_may_have_another_port(site: Site) -> None:
    assert site.get("/", Host="localhost:9999")[0] == 200
    assert site.get("/", Host="[::1]:1")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_other_pages_cannot_post_or_read(site: Site, headers: dict[str, str]) -> None:
    revision = site.project.annotations.current.revision
    assert site.post("/api/edit", {"do": "add"}, **headers)[0] == 403
    assert site.get("/api/facts", **headers)[0] == 403
    assert site.project.annotations.current.revision == revision


def test_the_schema_is_served(site: Site) -> None:
    assert json.loads(site.get("/api/schema")[2])["properties"].keys() >= {"Edit", "Command", "PageState", "News"}


def test_a_post_must_name_its_origin_and_be_json(site: Site) -> None:
    assert request(site.base, "/api/edit", "POST", b'{"do": "add"}', Cookie=site.cookie)[0] == 403
    assert site.post("/api/edit", {"do": "add"}, Content_Type="text/plain")[0] == 400
    assert site.get("/api/edit")[0] == 405


def test_the_browser_is_told_to_be_strict(site: Site) -> None:
    assert all(word in site.set_cookie for word in ("HttpOnly", "SameSite=Lax", "Path=/"))
    for path in ("/", "/nothing", "/api/frames/999"):
        headers = site.get(path)[1]
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    page = site.get("/")[2].decode()
    assert "style=" not in page
    assert "http" not in page.replace("http-equiv", "")


CLIMB = "../../../../../../../../etc/passwd"


@pytest.mark.parametrize(
    "climb", [CLIMB, CLIMB.replace("/", "%2f"), CLIMB.replace("..", "%2e%2e"), "..\\..\\x", "/etc/passwd"]
)
def test_no_path_leads_anywhere(site: Site, climb: str) -> None:
    for start in ("", "static/", "api/files/", "api/frames/", "api/thumbnails/", "api/masks/", "static/../"):
        status, _, body = site.get(f"/{start}{climb.replace(' ', '%20')}")
        assert status in (400, 404), start
        assert b"root:" not in body
    for query in (f"frame={climb}&object=1", f"frame=0&object={climb}"):
        assert site.post(f"/api/mask?{query}", b"x")[0] == 400
    assert site.get(f"/api/frames/0?w={climb}")[0] == 400
    for what in ({"do": climb}, {"do": "rename", "object": climb}, {"do": "clear", "object": 1, "frame": climb}):
        assert site.edit(**what)[0] == 400
    assert site.post("/api/command", {"kind": climb})[0] == 400
    status, answer = site.edit(do="add", name=climb)  # a name is only ever shown
    assert status == 200
    assert site.edit(do="remove", object=answer["object"])[0] == 200


def test_a_hundred_megabytes_are_refused_before_they_are_read(site: Site) -> None:
    try:
        status = site.post("/api/mask?frame=0&object=1", bytes(100 << 20))[0]
    except OSError:
        status = 413  # the server hung up on what it had refused
    assert status == 413
    assert site.post("/api/edit", b" " * (65 << 10))[0] == 413
    assert site.get("/api/facts")[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'"x"',
        b"[" * 30000,
        b'{"do": ["add"]}',
        b'{"do": "box", "object": true}',
        b"\xff",
    ],
)
def test_nonsense_is_refused_in_a_sentence(site: Site, body: bytes) -> None:
    status, _, answer = site.post("/api/edit", body)
    assert status == 400
    assert json.loads(answer)["error"]


@pytest.mark.parametrize(
    "box",
    [
        None,
        [1, 2, 3],
        [1, 2, 3, "4"],
        [1e400, 2, 3, 4],
        [9, 9, 1, 1],
        [10**400, 1, 2, 3],
        [[1], 2, 3, 4],
        [True, 1, 9, 9],
    ],
)
def test_bad_boxes_are_refused(site: Site, box: Any) -> None:
    object_id = site.edit(do="add")[1]["object"]
    assert site.edit(do="box", object=object_id, frame=0, box=box)[0] == 400
    assert site.edit(do="box", object=object_id, frame=99, box=[1, 1, 9, 9])[0] == 400
    assert site.edit(do="click", object=object_id, frame=0, xy=[1, 1], label=7)[0] == 400
    assert site.edit(do="remove", object=object_id)[0] == 200


def test_a_thousand_rapid_prompts(site: Site) -> None:
    object_id = site.edit(do="add")[1]["object"]

    def draw(k: int) -> int:
        x = 20 + k % 20
        status = site.edit(do="box", object=object_id, frame=0, box=[x, 30, x + 40, 70])[0]
        if k % 10 == 0:
            assert site.get("/api/masks/0")[0] in (200, 204)
        return status

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(draw, range(1000))) == {200}
    found = json.loads(site.get("/api/masks/0")[2])
    assert found["objects"][str(object_id)]["source"] == "preview"
    assert site.get("/api/frames/3")[0] == 200
    assert site.edit(do="remove", object=object_id)[0] == 200


def test_frames_come_at_screen_size(site: Site) -> None:
    status, headers, body = site.get("/api/frames/5?w=90")
    assert (status, headers["content-type"], body[:3]) == (200, "image/jpeg", b"\xff\xd8\xff")
    assert site.get("/api/thumbnails/0")[0] == 200
    for path in ("/api/frames/6", "/api/masks/6", "/api/frames/0?w=-1", "/api/frames/" + "9" * 5000):
        assert site.get(path)[0] in (400, 404), path


def test_only_offered_files_can_be_had(site: Site, tmp_path: Path) -> None:
    assert site.get("/api/files/csv")[0] == 400
    (tmp_path / "tracks.csv").write_text("frame\n")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "00000.png").write_bytes(b"x")
    site.downloads.offer({"csv": tmp_path / "tracks.csv", "masks": tmp_path / "masks"})
    status, headers, body = site.get("/api/files/csv")
    assert (status, body) == (200, b"frame\n")
    assert "attachment" in headers["content-disposition"]
    assert site.get("/api/files/masks")[2][:2] == b"PK"
    site.downloads.offer({})
    assert site.get("/api/files/csv")[0] == 400


def test_pages_are_counted_and_missed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samvideo.web.open_pages.AFTER_GOODBYE", 0.1)
    assert not site.open_pages.gone(silent=True)  # nobody came yet

    def watch() -> None:
        import http.client

        connection = http.client.HTTPConnection(site.host, timeout=5)
        connection.request("GET", "/api/events", headers={"Cookie": site.cookie})
        answer = connection.getresponse()
        assert answer.readline().startswith(b"data: {")
        time.sleep(0.3)
        connection.close()
        answer.close()

    thread = threading.Thread(target=watch)
    thread.start()
    wait_until(lambda: site.open_pages.ever)
    assert not site.open_pages.gone(silent=True)
    thread.join()
    assert site.post("/api/leave", b"")[0] == 204
    wait_until(lambda: site.open_pages.gone(silent=False), 10)


def test_bound_to_the_network_only_addresses_and_own_names_are_taken() -> None:
    guard = Guard(None, "token", "0.0.0.0")  # type: ignore[arg-type]
    for host, good in (
        ("192.168.0.7:80", True),
        ("[fe80::1]", True),
        (socket.gethostname(), True),
        ("evil.com", False),
    ):
        assert guard._may_be_called(host) == good, host


def test_a_taken_port_is_reported() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"^port {port} of 127\.0\.0\.1 is in use: choose another --port"):
            listen("127.0.0.1", port)
    with pytest.raises(ConfigError, match=r"nothing can be served at 203\.0\.113\.1 port 0 \([\w ]+\): choose"):
        listen("203.0.113.1", 0)


NUMBERS = [
    "0",
    "-1",
    "1.5",
    "9" * 30,
    "9" * 5000,
    "1e400",
    "NaN",
    "٣",
    "0x1",
    "",
    "null",
    "%00",
    "%ff%fe",
    "+1",
    "1_0",
]
VALUES = [*NUMBERS[:8], "true", '"\\ud800"', '"' + "x" * 300 + '"', "[" * 2000, "{}", "[]", '{"do":1}', "1" * 5000]
FIELDS = ["do", "frame", "object", "box", "xy", "label", "points", "radius", "erase", "name", "kind", "direction"]
DOS = ['"add"', '"rename"', '"remove"', '"clear"', '"box"', '"click"', '"paint"', '"polygon"', '"undo"', '"fly"']
POINTS = [
    "[[1,1],[9,1],[9,9]]",
    "[[1e5,-1e5],[-1e5,1e5],[0,0]]",
    "[]",
    "[[1]]",
    "[[NaN,1]]",
    "[1,1,9,9]",
    "[1e6,1]",
]


def test_no_request_is_answered_with_a_failure_of_the_server(site: Site) -> None:
    rng = random.Random(1)
    site.edit(do="add")

    def check(answer: tuple[int, dict[str, str], bytes], what: object) -> None:
        status, headers, body = answer
        assert status < 500, what
        if status >= 400 and headers["content-type"] == "application/json":
            assert 5 < len(json.loads(body)["error"]) < 300, what

    for place in ("frames", "thumbnails", "masks", "files"):
        for number in NUMBERS[:9] + NUMBERS[10:]:
            path = f"/api/{place}/{quote(number, safe='%')}"
            check(site.get(path), path)
            check(
                site.get(f"/api/frames/0?w={quote(number, safe='%')}&w=1&index={quote(number[:9], safe='%')}"), path
            )
    for _ in range(250):
        names = rng.sample(FIELDS[1:], rng.randrange(7))
        pairs = {name: rng.choice(VALUES + POINTS + ["1", "1", "4"]) for name in names}
        pairs["do"] = rng.choice(DOS)
        body = "{" + ",".join(f'"{name}":{value}' for name, value in pairs.items()) + "}"
        check(site.post("/api/edit", body.encode()), body)
        check(site.post("/api/command", body.replace('"do"', '"kind"').encode()), body)
    for _ in range(100):
        noise = rng.randbytes(rng.randrange(200))
        number = quote(rng.choice(NUMBERS), safe="%")
        check(site.post(f"/api/mask?frame={number}&object={rng.choice(['1', number])}", noise), number)
        check(site.post("/api/edit", noise), noise)
    for name, value in (
        ("Range", "bytes=" + "9" * 5000),
        ("Range", "bytes=5-1,,"),
        ("Origin", "http://["),
        ("Host", "[::"),
        ("Host", "127.0.0.1:" + "9" * 5000),
        ("Cookie", "samvideo_x=" + "\xff" * 99),
        ("Content_Type", "\xff"),
        ("Sec_Fetch_Site", "\xe9"),
        ("Content_Length", "9" * 5000),
    ):
        check(request(site.base, f"/?{site.query}", **{"Cookie": site.cookie, name: value}), (name, value))
        check(request(site.base, "/api/facts", **{"Cookie": site.cookie, name: value}), (name, value))
    for method in ("PUT", "DELETE", "OPTIONS", "TRACE", "HEAD", "NONSENSE"):
        check(request(site.base, "/api/facts", method, Cookie=site.cookie, Origin=f"http://{site.host}"), method)
    assert site.get("/api/facts")[0] == 200


def test_connections_that_only_wait_keep_nobody_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    held = [site.connect() for _ in range(3 * connections.MOST)]
    held[-1].sendall(b"GET / HTTP/1.1\r\nHost:")  # half a request waits too
    assert site.get("/api/facts")[0] == 200
    open_ones = sum(not is_closed(one) for one in held)
    assert open_ones <= connections.MOST
    for one in held:
        one.close()
    monkeypatch.setattr(connections, "PATIENCE", 0.3)
    with site.connect() as slow:
        slow.sendall(b"GET / HTTP/1.1\r\n")
        assert slow.recv(1) == b""  # hung up on
    assert site.get("/api/facts")[0] == 200


def is_closed(one: socket.socket) -> bool:
    one.setblocking(False)
    try:
        return one.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_a_video_whose_name_is_not_text_has_a_page(tmp_path: Path) -> None:
    with source() as video:
        info = replace(video.info, name="caf\udce9")
    with Project(
        info, source, FlowTracker(), GrabCutSegmenter, tool="mask", direction="both", model="flow"
    ) as project:
        assert b'"caf?"' in encode(project.facts)
        project.report(replace(project.status, error="no caf\udce9", folder="caf\udce9"))
        assert encode(project.state()).count(b"caf?") == 2
    answer = asyncio.run(_refuse(Request({"type": "http"}), PromptError("no caf\udce9")))
    assert json.loads(answer.body)["error"] == "no caf?"


def test_a_request_given_up_in_its_body_is_no_news(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    head = f"POST /api/mask?frame=0 HTTP/1.1\r\nHost: {site.host}\r\nOrigin: http://{site.host}\r\n"
    with site.connect() as closing:
        closing.sendall(f"{head}Cookie: {site.cookie}\r\nContent-Length: 20\r\n\r\nhalf".encode())
    for _ in range(3):  # its end is seen before that of later ones
        assert site.get("/api/facts")[0] == 200
    assert not caplog.records
