"""A machine learning back end for Label Studio: its HTTP protocol, and its formats of regions.

In a project with `VideoRectangle`, boxes that are drawn on one frame are tracked; in one with `BrushLabels`, clicks
and boxes on an image become masks. Its coordinates are percent of the frame, and its frames count from 1.

Source: https://labelstud.io/guide/ml_create, and the pages of the tags.
"""

import json
import time
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener
from xml.etree import ElementTree

import numpy as np
from pydantic import BaseModel, JsonValue, field_validator

from samvideo import __version__
from samvideo.errors import ConfigError, shown
from samvideo.io.rle import decode_rle
from samvideo.io.tracks import FrameRecord
from samvideo.serving.frames import read_frame
from samvideo.serving.limits import Refusal
from samvideo.serving.service import Service
from samvideo.serving.sessions import Session
from samvideo.types import BoolArray, Box, Frame, Points, Prompt

SILENT_SECONDS = 30.0  # without data, after which a file is given up
FETCH_SECONDS = 60.0  # after which a file is given up in any case
TRACK_SECONDS = 60.0  # of tracking, after which what was tracked is returned: Label Studio waits for 100
RUN_BITS = (3, 6, 10, 16)  # bits in which lengths of runs are written
URL_MARKS = "%/:?#[]@!$&'()*+,;="  # of a URL, which stay as they are
SIDES = ("x", "y", "width", "height")


class Task(BaseModel):
    """A task; its data are addresses of files, mostly."""

    data: dict[str, JsonValue] | None = None


class Context(BaseModel):
    """What was drawn."""

    result: list[dict[str, JsonValue]] | None = None

    @field_validator("result")
    @classmethod
    def _can_be_returned(cls, result: list[dict[str, JsonValue]] | None) -> list[dict[str, JsonValue]] | None:
        json.dumps(result, ensure_ascii=False).encode()  # UnicodeEncodeError, a ValueError, for half a character
        return result


class Params(BaseModel):
    """Of a request for interactive predictions."""

    context: Context | None = None


class PredictRequest(BaseModel):
    """What Label Studio sends for predictions; further fields are ignored."""

    tasks: list[Task]
    label_config: str = ""
    params: Params | None = None


class Prediction(BaseModel):
    """The regions of one task."""

    result: list[dict[str, Any]]
    score: float
    model_version: str


class PredictAnswer(BaseModel):
    """The predictions, one for each task."""

    results: list[Prediction]


class SetupAnswer(BaseModel):
    """The version of the model, by which Label Studio tells predictions apart."""

    model_version: str


@dataclass(frozen=True)
class Tags:
    """The tags of a labelling interface that are served: a control, what it is on, and the field of the data."""

    control: str
    object: str
    field: str
    video: bool


class LabelStudio:
    """Answers the requests of one Label Studio.

    Args:
        service: tracks.
        address: of Label Studio, from where alone files are fetched.
        key: its API key, for files that need one.
    """

    def __init__(self, service: Service, address: str, key: str | None = None) -> None:
        if not address.startswith(("http://", "https://")):
            raise ConfigError(f"--label-studio {shown(address)}: an address such as http://localhost:8080 expected")
        self._service, self._address, self._key = service, address.rstrip("/") + "/", key
        self.version = f"samvideo-{__version__}-{next(iter(service.models))}"

    async def predict(self, owner: str, request: PredictRequest) -> PredictAnswer:
        """Regions for tasks. Raises SamVideoError."""
        tags = find_tags(request.label_config)
        context = request.params.context if request.params is not None else None
        drawn = (context.result if context is not None else None) or []
        results = []
        end = time.monotonic() + TRACK_SECONDS
        for task in request.tasks:
            regions = await self._regions(owner, tags, task, drawn, end) if drawn else []
            scores = [region["score"] for region in regions]
            score = min(scores, default=0.0)
            results.append(Prediction(result=regions, score=score, model_version=self.version))
        return PredictAnswer(results=results)

    async def _regions(
        self, owner: str, tags: Tags, task: Task, drawn: list[dict[str, Any]], end: float
    ) -> list[dict[str, Any]]:
        address = (task.data or {}).get(tags.field)
        if not isinstance(address, str):
            raise Refusal(422, f"the task has no {tags.field!r} in its data, which the labelling interface names")
        session = await self._service.create(owner)
        try:
            with session.turn():
                path = session.upload_path()
                limits = self._service.limits
                most = limits.upload_bytes if tags.video else limits.image_bytes
                await self._service.fetch(lambda: self._fetch(address, path, most))
                if tags.video:
                    return await self._track(session, path, tags, drawn, end)
                return await self._segment(session, path, tags, drawn)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise Refusal(422, f"a region of the context is not as Label Studio writes it: {error!r}") from error
        finally:
            await self._service.close_session(session)

    async def _track(
        self, session: Session, path: Path, tags: Tags, drawn: list[dict[str, Any]], end: float
    ) -> list[dict[str, Any]]:
        """Track the boxes of the context; each region has its id and label, and the boxes of all frames tracked.

        What was tracked until a time, or until the server ends, is returned.
        """
        await self._service.read(partial(session.open_video, path))
        boxes = [region for region in drawn if region.get("type") == "videorectangle"]
        if not boxes:
            return []
        first = min(int(region["value"]["sequence"][0]["frame"]) for region in boxes) - 1
        frame = await self._service.read(lambda: session.read(max(0, first)))
        records: list[FrameRecord] = []
        while frame is not None and time.monotonic() < end and not self._service.ending:
            records.append(await self._service.step(session, frame, partial(_due, boxes, frame)))
            frame = await self._service.read(session.read)
        return [_video_region(tags, region, k, records, session) for k, region in enumerate(boxes, 1)]

    async def _segment(
        self, session: Session, path: Path, tags: Tags, drawn: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """One mask from all clicks and boxes of the context."""
        rgb = await self._service.apart(lambda: read_frame(path.read_bytes(), self._service.limits.pixels))
        frame = Frame(0, 0.0, rgb)
        width, height = frame.size_wh
        prompts, label = _image_prompts(drawn, frame.size_wh)
        record = await self._service.step(session, frame, lambda: prompts)
        (found,) = record.objects
        coded = await self._service.apart(lambda: brush_rle(decode_rle(found.rle, frame.size_wh)))
        value = {"format": "rle", "rle": coded, "brushlabels": [label]}
        region = {"type": "brushlabels", "original_width": width, "original_height": height, "image_rotation": 0}
        return [_region(tags, f"samvideo-{int(time.time() * 1e6):x}", value, found.score) | region]

    def _fetch(self, address: str, path: Path, most: int) -> None:
        """Download a file of Label Studio."""
        url = quote(urljoin(self._address, address), safe=URL_MARKS)
        if urlsplit(url)[:2] != urlsplit(self._address)[:2]:
            raise Refusal(422, f"files are fetched from {self._address} only, not from {url[:100]}")
        headers = {"Authorization": f"Token {self._key}"} if self._key else {}
        end = time.monotonic() + FETCH_SECONDS
        try:
            opened = build_opener(_NoRedirect).open(Request(url, headers=headers), timeout=SILENT_SECONDS)
            with opened as source, path.open("wb") as file:
                for chunk in iter(partial(source.read1, 1 << 20), b""):
                    file.write(chunk)
                    if file.tell() > most:
                        raise Refusal(413, f"{url[:100]} has more than {most} bytes")
                    if time.monotonic() > end or self._service.ending:
                        raise Refusal(503, f"{url[:100]} did not arrive in time")
        except (OSError, HTTPException) as error:
            raise Refusal(422, f"{url[:100]} cannot be fetched from Label Studio: {error}") from error


class _NoRedirect(HTTPRedirectHandler):
    """Follows no redirect: the API key is for Label Studio only."""

    def redirect_request(self, *_: Any) -> None:
        return None


def find_tags(label_config: str) -> Tags:
    """The tags of a labelling interface in XML; Refusal, 422, if it has none that is served."""
    try:
        root = ElementTree.fromstring(label_config)
    except ElementTree.ParseError as error:
        raise Refusal(422, f"label_config is not XML: {error}") from error
    for kind, video in (("VideoRectangle", True), ("BrushLabels", False)):
        control = root.find(f".//{kind}")
        name = "" if control is None else control.get("toName", "")
        shown = next((tag for tag in root.iter("Video" if video else "Image") if tag.get("name") == name), None)
        if control is not None and shown is not None:
            return Tags(control.get("name", ""), name, shown.get("value", "").removeprefix("$"), video)
    raise Refusal(422, "label_config has neither VideoRectangle on a Video nor BrushLabels on an Image")


def brush_rle(mask_hw: BoolArray) -> list[int]:
    """Encode a mask as Label Studio's brush does: rle-pack of its RGBA pixels, as bytes."""
    flat = np.repeat(np.asarray(mask_hw, bool).ravel(), 4)
    bounds = np.flatnonzero(np.diff(flat, prepend=~flat[:1], append=~flat[-1:]))
    bits = [f"{len(flat):032b}", f"{8 - 1:05b}", *(f"{size - 1:04b}" for size in RUN_BITS)]
    for start, stop in pairwise(bounds):
        value = "1" * 8 if flat[start] else "0" * 8
        left = int(stop - start)
        while left:
            length = min(left, 1 << RUN_BITS[-1])
            kind = next(k for k, size in enumerate(RUN_BITS) if length <= 1 << size)
            bits.append(f"1{kind:02b}{length - 1:0{RUN_BITS[kind]}b}{value}")
            left -= length
    coded = np.frombuffer("".join(bits).encode(), np.uint8) - ord("0")
    return [int(byte) for byte in np.packbits(coded)]


def _due(boxes: list[dict[str, Any]], frame: Frame) -> list[Prompt]:
    """The boxes that were drawn on a frame."""
    width, height = frame.size_wh
    return [
        Box(_pixels(entry, width, height), object_id=object_id)
        for object_id, region in enumerate(boxes, 1)
        for entry in region["value"]["sequence"]
        if int(entry["frame"]) == frame.index + 1 and entry.get("enabled", True)
    ]


def _image_prompts(drawn: list[dict[str, Any]], size_wh: tuple[int, int]) -> tuple[list[Prompt], str]:
    """Prompts for one object, and its label."""
    width, height = size_wh
    prompts: list[Prompt] = []
    clicks, signs, label = [], [], ""
    for region in drawn:
        value = region["value"]
        label = next(iter(value.get(region["type"]) or []), label)
        if region["type"] == "rectanglelabels":
            prompts = [Box(_pixels(value, width, height), object_id=1)]
        elif region["type"] == "keypointlabels":
            clicks.append((value["x"] * width / 100, value["y"] * height / 100))
            signs.append(int(bool(region.get("is_positive", True))))
    if clicks:
        prompts.append(Points(clicks, signs, object_id=1))
    if not prompts:
        raise Refusal(422, "the context has no keypointlabels and no rectanglelabels to segment by")
    return prompts, str(label)


def _pixels(percent: dict[str, Any], width: int, height: int) -> tuple[float, float, float, float]:
    x, y, w, h = (float(percent[side]) for side in SIDES)
    return x * width / 100, y * height / 100, (x + w) * width / 100, (y + h) * height / 100


def _region(tags: Tags, region_id: str, value: dict[str, Any], score: float) -> dict[str, Any]:
    return {"id": region_id, "from_name": tags.control, "to_name": tags.object, "value": value, "score": score}


def _video_region(
    tags: Tags, region: dict[str, Any], object_id: int, records: list[FrameRecord], session: Session
) -> dict[str, Any]:
    """A region with the boxes of an object on every frame; where it is not seen, its last box is not enabled."""
    info = session.video.info if session.video is not None else None
    assert info is not None
    width, height = info.size_wh
    sequence: list[dict[str, Any]] = []
    scores = []
    for record in records:
        found = next((one for one in record.objects if one.object_id == object_id), None)
        if found is None:
            continue
        seen = found.present and found.area > 0
        if seen:
            x, y, w, h = found.bbox_xywh
            place = dict(
                zip(SIDES, (100 * x / width, 100 * y / height, 100 * w / width, 100 * h / height), strict=True)
            )
            scores.append(found.score)
        elif sequence:
            place = {side: sequence[-1][side] for side in SIDES}
        else:
            continue
        entry = {"frame": record.index + 1, "time": record.seconds, "enabled": seen, "rotation": 0}
        sequence.append(entry | place)
    given = region["value"]
    count = info.frame_count or max((record.index + 1 for record in records), default=0)
    value = {
        "framesCount": given.get("framesCount", count),
        "duration": given.get("duration", info.duration or 0.0),
    }
    value |= {"sequence": sequence, "labels": given.get("labels") or []}
    score = sum(scores) / len(scores) if scores else 0.0
    return _region(tags, str(region["id"]), value, score) | {"type": "videorectangle", "origin": "manual"}
