"""The life of sessions: streams and uploads, prompts, propagation, and that they are never mixed."""

import gc
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs samvideo[serve]")
pytest.importorskip("httpx", reason="FastAPI's test client needs httpx")

from serving_client import BOX, FLIPPED, FLIPPED_BOX, FRAMES, SIZE, alone, events, serving, tiny

from samvideo.io.masks import encode_rle
from samvideo.io.source import open_video
from samvideo.trackers.flow import FlowTracker
from samvideo.types import Frame
from tests.clips import write_clip


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", FRAMES)


def test_a_stream_from_its_first_frame_to_its_end() -> None:
    with serving() as client:
        at = client.create()
        assert client.frame(at, FRAMES[0]) == {"index": 0, "seconds": 0.0, "objects": []}
        first = client.box(at, label="ball")
        assert [(one["id"], one["label"], one["present"]) for one in first["objects"]] == [(1, "ball", True)]
        later = [client.frame(at, rgb) for rgb in FRAMES[1:]]
        expected = alone(FlowTracker(), FRAMES)
        assert [_unlabelled(one) for one in [first, *later]] == expected
        facts = client.ask("GET", at)
        assert (facts["frame"], facts["objects"], facts["video"]) == (5, [1], None)
        client.ask("DELETE", f"{at}/objects/1", 204)
        assert client.frame(at, FRAMES[0])["objects"] == []
        client.ask("DELETE", at, 204)
        client.ask("GET", at, 404)


def _unlabelled(record: dict[str, Any]) -> dict[str, Any]:
    objects = [{key: value for key, value in one.items() if key != "label"} for one in record["objects"]]
    return {**record, "objects": objects}


def test_frames_have_the_index_and_time_that_are_given() -> None:
    with serving() as client:
        at = client.create()
        assert client.frame(at, FRAMES[0], index=7, seconds=1.5)["seconds"] == 1.5
        assert client.frame(at, FRAMES[1])["index"] == 8
        again = [client.box(at), client.frame(at, FRAMES[1], index=8)]
        assert again[0] == {**again[1], "seconds": again[0]["seconds"]}  # the same frame again: no time passes


@pytest.mark.parametrize("kind", ["box", "points", "mask"])
def test_every_kind_of_prompt(kind: str) -> None:
    mask = np.zeros(SIZE[::-1], bool)
    x1, y1, x2, y2 = (round(side) for side in BOX)
    mask[y1:y2, x1:x2] = True
    prompt: Any = {
        "box": BOX,
        "points": [[(BOX[0] + BOX[2]) / 2, (BOX[1] + BOX[3]) / 2]],
        "mask": encode_rle(mask),
    }[kind]
    with serving() as client:
        at = client.create()
        client.frame(at, FRAMES[0])
        found = client.ask("POST", f"{at}/prompts", json={"prompts": [{kind: prompt, "object_id": 5}]})
        assert [one["id"] for one in found["objects"]] == [5]
        assert found["objects"][0]["area"] > 0
        if kind == "mask":
            assert found["objects"][0]["segmentation"] == encode_rle(mask)


def test_an_uploaded_video_is_stepped_and_propagated(clip: Path) -> None:
    with open_video(clip) as video:
        decoded = [frame.rgb for frame in video]
    expected = alone(FlowTracker(), decoded)
    with serving() as client:
        at = client.create()
        facts = client.upload(at, clip)
        assert facts["video"] == {"width": 160, "height": 96, "rate": "25", "frames": 6}
        assert client.ask("POST", f"{at}/step")["index"] == 0
        results = [client.box(at), client.ask("POST", f"{at}/step", json={"frame": 1})]
        some = events(client.ask("POST", f"{at}/propagate", json={"steps": 1}))
        assert [name for name, _ in some] == ["frame", "end"]
        rest = events(client.ask("POST", f"{at}/propagate"))
        assert [name for name, _ in rest] == ["frame", "frame", "frame", "end"]
        assert (json.loads(some[-1][1]), json.loads(rest[-1][1])) == ({"reason": "steps"}, {"reason": "video"})
        results += [json.loads(data) for name, data in some + rest if name == "frame"]
        assert [one["objects"] for one in results] == [one["objects"] for one in expected]
        assert "ended" in client.ask("POST", f"{at}/step", 409)
        assert client.ask("POST", f"{at}/step", json={"frame": 2})["index"] == 2
        strided = events(client.ask("POST", f"{at}/propagate", json={"stride": 2}))
        assert [json.loads(data)["index"] for name, data in strided if name == "frame"] == [4]


def test_interleaved_sessions_give_what_each_gives_alone() -> None:
    make, count = tiny(), len(FRAMES)
    expected = [alone(make(), FRAMES[:count]), alone(make(), FLIPPED[:count], FLIPPED_BOX)]
    expected.append(alone(FlowTracker(), FRAMES[:count]))
    with serving(tiny=make, flow=FlowTracker) as client:
        ways = [client.create(), client.create(model="tiny"), client.create(model="flow")]
        clips, boxes = [FRAMES, FLIPPED, FRAMES], [BOX, FLIPPED_BOX, BOX]
        found: list[list[Any]] = [[], [], []]
        for index in range(count):
            for place, at in enumerate(ways):
                record = client.frame(at, clips[place][index])
                found[place].append(client.box(at, boxes[place]) if index == 0 else record)
        for given, alone_ in zip(found, expected, strict=True):
            assert [one["objects"] for one in given] == [one["objects"] for one in alone_]
        assert found[0][3]["objects"] != found[1][3]["objects"]


def frames_held() -> list[Frame]:
    gc.collect()
    return [one for one in gc.get_objects() if type(one) is Frame]


def test_a_session_does_not_grow_with_the_frames() -> None:
    others = frames_held()  # of other tests of this process
    with serving(tiny=tiny()) as client:
        at = client.create()
        client.frame(at, FRAMES[0])
        client.box(at)
        (session,) = client.service._sessions.values()
        sizes = []
        for index in range(1, 31):
            client.frame(at, FRAMES[index % len(FRAMES)])
            sizes.append(len(session._tracker.state()))
        assert len(frames_held()) - len(others) <= 2
        assert max(sizes[15:]) - max(sizes[:15]) < 16  # bytes of larger numbers
