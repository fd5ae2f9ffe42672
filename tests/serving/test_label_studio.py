"""The back end for Label Studio, with files from a stand-in for it, and its SDK where installed."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs samvideo[serve]")
pytest.importorskip("httpx", reason="FastAPI's test client needs httpx")

from fastapi.testclient import TestClient
from serving_client import BOX, CLIP, FRAMES, SIZE, TOKEN, png

from samvideo.io.source import open_video
from samvideo.serving.app import make_app
from samvideo.serving.label_studio import LabelStudio, brush_rle
from samvideo.serving.limits import Limits
from samvideo.serving.service import MakeTracker, Service
from samvideo.trackers.flow import FlowTracker
from samvideo.types import Frame, FrameResult
from tests.clips import write_clip

KEY = "key-of-label-studio"
VIDEO = """<View><Labels name="labels" toName="video"><Label value="ball"/></Labels>
<Video name="video" value="$clip"/>
<VideoRectangle name="box" toName="video"/></View>"""
IMAGE = """<View><Image name="image" value="$picture"/>
<BrushLabels name="brush" toName="image"><Label value="ball"/></BrushLabels>
<RectangleLabels name="rect" toName="image" smart="true"><Label value="ball"/></RectangleLabels></View>"""
PERCENT = {
    "x": 100 * BOX[0] / SIZE[0],
    "y": 100 * BOX[1] / SIZE[1],
    "width": 100 * (BOX[2] - BOX[0]) / SIZE[0],
    "height": 100 * (BOX[3] - BOX[1]) / SIZE[1],
}


@contextmanager
def label_studio(files: dict[str, bytes]) -> Iterator[str]:
    """A server of files for who has the key; `/moved` redirects elsewhere."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/broken":
                self.wfile.write(b"no HTTP\r\n\r\n")
                return
            found = files.get(self.path)
            allowed = self.headers["Authorization"] == f"Token {KEY}"
            self.send_response(302 if self.path == "/moved" else 200 if found and allowed else 404)
            if self.path == "/moved":
                self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()
            if found and allowed:
                self.wfile.write(found)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def back_end(
    files: dict[str, bytes], limits: Limits | None = None, tracker: MakeTracker = FlowTracker
) -> Iterator[Any]:
    """Ask for a prediction: `ask(status, config, data, regions)`."""
    with label_studio(files) as address:
        service = Service({"flow": tracker}, limits)
        app = make_app(service, [TOKEN], LabelStudio(service, address, KEY))
        with TestClient(app) as http:
            http.auth = ("anybody", TOKEN)

            def ask(status: int, config: str, data: Any, *regions: Any) -> Any:
                body = {"tasks": [{"id": 1, "data": data}], "label_config": config, "project": "1.2"}
                if regions:
                    body["params"] = {"context": {"result": list(regions)}}
                answer = http.post("/label-studio/predict", json=body)
                assert answer.status_code == status, answer.text
                assert service.health().sessions == 0
                return answer.json()["results"] if status == 200 else answer.json()["error"]

            yield SimpleClient(http, ask, service)


class SimpleClient:
    def __init__(self, http: TestClient, ask: Any, service: Service) -> None:
        self.http, self.ask, self.service = http, ask, service

    def post(self, body: Any) -> Any:
        """Ask for a prediction by any JSON, also such as no client writes."""
        headers = {"content-type": "application/json"}
        return self.http.post("/label-studio/predict", content=json.dumps(body), headers=headers)


def test_the_protocol() -> None:
    with back_end({}) as client:
        assert client.http.get("/label-studio/health").json()["status"] == "UP"
        version = client.http.post("/label-studio/setup", json={"project": "1", "schema": VIDEO}).json()[
            "model_version"
        ]
        assert "flow" in version
        (answer,) = client.ask(200, VIDEO, {"clip": "/clip.mp4"})
        assert answer == {"result": [], "score": 0.0, "model_version": version}
        client.http.auth = ("anybody", "wrong")
        assert client.http.get("/label-studio/health").status_code == 401


def _tracked(tmp_path: Path) -> tuple[Path, Any]:
    """A clip, and the prediction for a box on its second frame."""
    clip = write_clip(tmp_path / "clip.mp4", FRAMES)
    drawn = {"frame": 2, "enabled": True, "rotation": 0, "time": 0.04, **PERCENT}
    region = {
        "id": "abc",
        "type": "videorectangle",
        "from_name": "box",
        "to_name": "video",
        "value": {"framesCount": 6, "duration": 0.24, "labels": ["ball"], "sequence": [drawn]},
    }
    with back_end({"/clip.mp4": clip.read_bytes()}) as client:
        (answer,) = client.ask(200, VIDEO, {"clip": "/clip.mp4"}, region)
    return clip, answer


def test_a_box_on_a_frame_is_tracked(tmp_path: Path) -> None:
    clip, answer = _tracked(tmp_path)
    (found,) = answer["result"]
    assert (found["id"], found["type"], found["value"]["labels"]) == ("abc", "videorectangle", ["ball"])
    assert [entry["frame"] for entry in found["value"]["sequence"]] == [2, 3, 4, 5, 6]
    with open_video(clip) as video:
        times = [frame.seconds for frame in video]
    assert [entry["time"] for entry in found["value"]["sequence"]] == pytest.approx(times[1:])
    for entry in found["value"]["sequence"]:
        assert all(abs(entry[side] - PERCENT[side]) < 20 for side in PERCENT)


def _segmented() -> Any:
    """The prediction for a box on an image."""
    region = {"type": "rectanglelabels", "value": {**PERCENT, "rectanglelabels": ["ball"]}}
    with back_end({"/1.png": png(FRAMES[0])}) as client:
        (answer,) = client.ask(200, IMAGE, {"picture": "/1.png"}, region)
    return answer


def test_a_box_on_an_image_becomes_a_mask() -> None:
    (found,) = _segmented()["result"]
    assert (found["original_width"], found["original_height"]) == SIZE
    mask = _decoded(found["value"]["rle"])
    true = CLIP[0][1][0]
    assert (mask & true).sum() / (mask | true).sum() > 0.5
    assert found["value"]["brushlabels"] == ["ball"]


@pytest.mark.parametrize(
    ("data", "config", "regions", "text"),
    [
        ({"picture": "http://169.254.169.254/"}, IMAGE, 1, "only"),
        ({"picture": "file:///etc/passwd"}, IMAGE, 1, "only"),
        ({"picture": "/moved"}, IMAGE, 1, "cannot be fetched"),
        ({"picture": "/none.png"}, IMAGE, 1, "cannot be fetched"),
        ({}, IMAGE, 1, "no 'picture'"),
        ({"picture": "/1.png"}, "<View/>", 1, "neither"),
        ({"picture": "/1.png"}, "no XML", 1, "not XML"),
        ({"clip": "/1.png"}, VIDEO, 1, "not a video"),
        ({"picture": "/1.png"}, IMAGE, {"type": "rectanglelabels"}, "not as Label Studio"),
        ({"picture": "/1.png"}, IMAGE, {"type": "choices", "value": {}}, "no keypointlabels"),
    ],
)
def test_refusals(data: Any, config: str, regions: Any, text: str) -> None:
    region = {"type": "rectanglelabels", "value": {**PERCENT, "rectanglelabels": ["ball"]}}
    with back_end({"/1.png": png(FRAMES[0])}) as client:
        assert text in client.ask(422, config, data, region if regions == 1 else regions)


RECT = {"type": "rectanglelabels", "value": {**PERCENT, "rectanglelabels": ["ball"]}}


@pytest.mark.parametrize(
    "body",
    [
        {"params": {"context": [1]}},
        {"params": {"context": {"result": 5}}},
        {"params": {"context": {"result": [1]}}},
        {"tasks": [{"data": "x"}]},
        {"tasks": [{"data": {"picture": "/none with a blank\n.png"}}]},
        {"tasks": [{"data": {"picture": "http://[/"}}]},
        {"tasks": [{"data": {"picture": "/broken"}}]},
        {"params": {"context": {"result": [{"type": "rectanglelabels", "value": [1]}]}}},
        {"params": {"context": {"result": [{**RECT, "value": {**PERCENT, "x": float("inf")}}]}}},
        {"params": {"context": {"result": [{**RECT, "type": "\ud800"}]}}},
    ],
)
def test_nonsense_is_never_the_servers_fault(body: dict[str, Any]) -> None:
    right = {
        "tasks": [{"data": {"picture": "/1.png"}}],
        "label_config": IMAGE,
        "params": {"context": {"result": [RECT]}},
    }
    with back_end({"/1.png": png(FRAMES[0])}) as client:
        assert client.post(right).status_code == 200
        answer = client.post(right | body)
        assert (answer.status_code, list(answer.json())) == (422, ["error"])


@pytest.mark.parametrize(
    ("frame", "label"), [(float("inf"), "a"), (float("nan"), "a"), ([], "a"), ("x", "a"), (1, "\ud800")]
)
def test_boxes_in_videos_that_are_nonsense(tmp_path: Path, frame: Any, label: str) -> None:
    clip = write_clip(tmp_path / "clip.mp4", FRAMES)
    region: Any = {"id": "a", "type": "videorectangle", "value": {"sequence": [{"frame": frame, **PERCENT}]}}
    region["value"]["labels"] = [label]
    with back_end({"/clip.mp4": clip.read_bytes()}) as client:
        task = {"data": {"clip": "/clip.mp4"}}
        body = {"tasks": [task], "label_config": VIDEO, "params": {"context": {"result": [region]}}}
        answer = client.post(body)
        assert (answer.status_code, list(answer.json())) == (422, ["error"])


def test_addresses_may_have_blanks() -> None:
    with back_end({"/a%20b.png": png(FRAMES[0])}) as client:
        assert client.ask(200, IMAGE, {"picture": "/a b.png"}, RECT)
        assert client.ask(200, IMAGE, {"picture": "/a%20b.png"}, RECT)


def test_an_image_has_the_limit_of_images() -> None:
    with back_end({"/1.png": png(FRAMES[0])}, Limits(image_bytes=100)) as client:
        assert "more than 100 bytes" in client.ask(413, IMAGE, {"picture": "/1.png"}, RECT)


def test_what_was_tracked_is_returned_when_the_server_ends(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", FRAMES)
    sequence = [{"frame": 1, "enabled": True, **PERCENT}]
    region = {"id": "a", "type": "videorectangle", "value": {"sequence": sequence, "labels": ["ball"]}}

    class Ending(FlowTracker):
        def step(self, frame: Frame, *args: Any, **options: Any) -> FrameResult:
            if frame.index == 2:
                client.service.end()
            return super().step(frame, *args, **options)

    with back_end({"/clip.mp4": clip.read_bytes()}, tracker=Ending) as client:
        ((found,),) = (one["result"] for one in client.ask(200, VIDEO, {"clip": "/clip.mp4"}, region))
        assert [entry["frame"] for entry in found["value"]["sequence"]] == [1, 2, 3]


@pytest.mark.parametrize("seed", range(3))
def test_masks_survive_the_encoding(seed: int) -> None:
    mask = np.random.default_rng(seed).random((96, 160)) > (0.5, 0.0, 1.0)[seed]
    assert (_decoded(brush_rle(mask)) == mask).all()


def test_a_mask_of_long_runs() -> None:
    mask = np.zeros((96, 160), bool)
    mask[50:] = True
    coded = brush_rle(mask)
    assert (_decoded(coded) == mask).all()
    assert len(coded) < 40


def _decoded(coded: list[int]) -> np.ndarray:
    """Read rle-pack: values, bits of a value, four sizes; then runs, or values one by one."""
    bits = "".join(f"{byte:08b}" for byte in coded)
    place = 0

    def take(count: int) -> int:
        nonlocal place
        place += count
        return int(bits[place - count : place], 2)

    count, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < count:
        same = take(1)
        length = take(sizes[take(2)]) + 1
        values += [take(word)] * length if same else [take(word) for _ in range(length)]
    return np.array(values).reshape(SIZE[1], SIZE[0], 4)[..., 3] > 0


def test_the_sdk_accepts_the_predictions(tmp_path: Path) -> None:
    interface = pytest.importorskip("label_studio_sdk.label_interface", reason="needs pip install label-studio-sdk")
    for config, prediction in ((VIDEO, _tracked(tmp_path)[1]), (IMAGE, _segmented())):
        assert interface.LabelInterface(config).validate_prediction(prediction, return_errors=True) == []
