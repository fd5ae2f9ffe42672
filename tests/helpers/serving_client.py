"""A client of the server of sessions, in this process, with clips of its own."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from fastapi.testclient import TestClient
from tiny_sam import tiny_model

from samvideo.demo import demo_frames
from samvideo.geometry import mask_box
from samvideo.io.tracks import FrameRecord
from samvideo.serving.app import make_app
from samvideo.serving.limits import Limits
from samvideo.serving.service import MakeTracker, Service, sharing
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.base import Tracker
from samvideo.trackers.flow import FlowTracker
from samvideo.trackers.sam import SamTracker
from samvideo.types import Box, Frame

TOKEN, OTHER = "token-of-a-client", "token-of-another"
SIZE = 160, 96
CLIP = list(islice(demo_frames(30, SIZE), 6))
FRAMES = [rgb for rgb, _ in CLIP]
FLIPPED = [np.ascontiguousarray(rgb[:, ::-1]) for rgb in FRAMES]
BOX = mask_box(CLIP[0][1][0]) or (0, 0, 0, 0)  # of an object, and where it is in the flipped clip
FLIPPED_BOX = SIZE[0] - BOX[2], BOX[1], SIZE[0] - BOX[0], BOX[3]


@cache
def tiny() -> MakeTracker:
    """Trackers that share one model."""
    return sharing(lambda: SamTracker(TorchRuntime(tiny_model())))


def png(rgb: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", rgb[..., ::-1])[1])


def alone(tracker: Tracker, frames: list[np.ndarray], box: tuple[float, ...] = BOX) -> list[dict[str, Any]]:
    """What a tracker of its own gives for a clip with a box on its first frame."""
    results = []
    for index, rgb in enumerate(frames):
        frame = Frame(index, index / 24, rgb)
        if index == 0:
            tracker.step(frame)
        result = tracker.step(frame, [Box(box)] if index == 0 else [])  # type: ignore[arg-type]
        results.append(json.loads(json.dumps(FrameRecord.from_result(result).to_json())))
    return results


class Client:
    """Requests with a token."""

    def __init__(self, http: TestClient, service: Service, token: str = TOKEN) -> None:
        self.http, self.service, self._headers = http, service, {"authorization": f"Bearer {token}"}

    def ask(self, method: str, path: str, status: int = 200, **options: Any) -> Any:
        """Check the status of the answer, and return its JSON."""
        answer = self.http.request(method, path, headers=self._headers | options.pop("headers", {}), **options)
        assert answer.status_code == status, answer.text
        if status >= 400:
            assert list(answer.json()) == ["error"]
            return answer.json()["error"]
        return answer.json() if "json" in answer.headers.get("content-type", "") else answer.text

    def create(self, **settings: Any) -> str:
        """The address of a new session."""
        return f"/sessions/{self.ask('POST', '/sessions', 201, json=settings)['id']}"

    def frame(self, at: str, rgb: np.ndarray, status: int = 200, **query: Any) -> Any:
        return self.ask("POST", f"{at}/frames", status, content=png(rgb), params=query)

    def box(self, at: str, box: tuple[float, ...] = BOX, status: int = 200, **more: Any) -> Any:
        return self.ask("POST", f"{at}/prompts", status, json={"prompts": [{"box": box, **more}]})

    def upload(self, at: str, path: Path, status: int = 200) -> Any:
        return self.ask("PUT", f"{at}/video", status, content=path.read_bytes())


@contextmanager
def serving(limits: Limits | None = None, **models: MakeTracker) -> Iterator[Client]:
    """The application, without a network."""
    service = Service(models or {"flow": FlowTracker}, limits)
    with TestClient(make_app(service, [TOKEN, OTHER])) as http:
        yield Client(http, service)


def events(text: str) -> list[tuple[str, str]]:
    """Names and data of server-sent events."""
    found = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), data.removeprefix("data: ")))
    return found
