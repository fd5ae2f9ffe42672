"""What goes wrong inside: steps that fail, videos that stray, clients that stall or vanish, closes that fail."""

import asyncio
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs samvideo[serve]")
pytest.importorskip("httpx", reason="FastAPI's test client needs httpx")

from anyio import create_task_group
from serving_client import FRAMES, SIZE, Client, events, serving

from samvideo.errors import ConfigError
from samvideo.io.files import LOCK
from samvideo.io.masks import encode_rle
from samvideo.serving import messages, storage
from samvideo.serving.label_studio import LabelStudio
from samvideo.serving.limits import Limits, Refusal
from samvideo.serving.server import ApiServer, ServerSettings
from samvideo.serving.service import Service
from samvideo.serving.sessions import Session
from samvideo.trackers.flow import FlowTracker
from samvideo.types import Frame, FrameResult, Prompt
from tests.clips import write_clip


class Faulty(FlowTracker):
    """Fails at its third frame, when it has taken in the frame already."""

    def step(self, frame: Frame, prompts: Sequence[Prompt] = (), *, upcoming: Frame | None = None) -> FrameResult:
        result = super().step(frame, prompts, upcoming=upcoming)
        if frame.index == 2:
            raise RuntimeError("out of memory")
        return result


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", FRAMES)


@pytest.fixture
def video(clip: Path) -> Iterator[tuple[Client, str]]:
    """A session with a video, at its first frame."""
    with serving() as client:
        yield client, uploaded(client, clip)


def uploaded(client: Client, clip: Path) -> str:
    at = client.create()
    client.upload(at, clip)
    client.ask("POST", f"{at}/step")
    return at


def indices(text: str) -> list[int]:
    return [json.loads(data)["index"] for name, data in events(text) if name == "frame"]


@pytest.mark.logs_errors
def test_a_session_whose_step_failed_is_not_used_further(clip: Path) -> None:
    with serving(faulty=Faulty) as client:
        at = client.create()
        for rgb in FRAMES[:2]:
            client.frame(at, rgb)
        assert "internal error" in client.frame(at, FRAMES[2], 500)
        assert "has failed" in client.frame(at, FRAMES[2], 409, index=2)
        client.ask("DELETE", at, 204)
        found = events(client.ask("POST", f"{uploaded(client, clip)}/propagate"))
        assert [name for name, _ in found] == ["frame", "error"]


@pytest.mark.logs_errors
def test_a_fault_of_another_kind_is_told_as_json_and_as_an_event(
    video: tuple[Client, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, at = video

    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(Session, "read", fail)
    client.http._transport.raise_server_exceptions = False  # type: ignore[attr-defined]
    assert "internal error" in client.ask("POST", f"{at}/step", 500)
    ((name, data),) = events(client.ask("POST", f"{at}/propagate"))
    assert (name, "internal error" in data) == ("error", True)


@pytest.mark.parametrize("way", ["step", "frame", "propagate"])
def test_no_frame_is_lost_after_a_stride(video: tuple[Client, str], way: str) -> None:
    client, at = video
    assert indices(client.ask("POST", f"{at}/propagate", json={"stride": 3})) == [3]  # 4 and 5 are skipped
    if way == "step":
        assert client.ask("POST", f"{at}/step")["index"] == 4
    if way == "frame":
        assert client.ask("POST", f"{at}/step", json={"frame": 3})["index"] == 3
        assert client.ask("POST", f"{at}/step", json={"frame": 4})["index"] == 4
        client.ask("POST", f"{at}/step", 422, json={"frame": 99})
    if way == "propagate":
        assert indices(client.ask("POST", f"{at}/propagate", json={"steps": 1})) == [4]
    assert client.ask("POST", f"{at}/step")["index"] == 5
    client.ask("POST", f"{at}/step", 409)


@pytest.mark.parametrize("newest", [None, 1])
def test_a_frame_past_the_end_loses_nothing_of_a_video_without_times(tmp_path: Path, newest: int | None) -> None:
    clip = write_clip(tmp_path / "clip.h264", FRAMES)
    with serving() as client:
        at = client.create()
        client.upload(at, clip)
        if newest is not None:
            client.ask("POST", f"{at}/step", json={"frame": newest})
        client.ask("POST", f"{at}/step", 422, json={"frame": 1000})
        assert client.ask("POST", f"{at}/step")["index"] == (0 if newest is None else newest + 1)


def test_a_huge_stride_ends_with_the_video(video: tuple[Client, str]) -> None:
    client, at = video
    begin = time.monotonic()
    (last,) = events(client.ask("POST", f"{at}/propagate", json={"stride": 10**9}))
    assert last == ("end", '{"reason": "video"}')
    assert time.monotonic() - begin < 20


def test_slow_seeks_and_their_end_hold_up_no_other_session(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, release, read = threading.Semaphore(0), threading.Event(), Session.read

    def slow(session: Session, index: int | None = None) -> Frame | None:
        if index == 3:
            with session._using():
                begun.release()
                assert release.wait(30)
        return read(session, index)

    monkeypatch.setattr(Session, "read", slow)
    with serving() as client, ThreadPoolExecutor(16) as pool:
        try:
            at = [uploaded(client, clip) for _ in range(6)]
            asked = [pool.submit(client.ask, "POST", f"{one}/step", json={"frame": 3}) for one in at[1:]]
            assert all(begun.acquire(timeout=10) for _ in asked)
            ended = [pool.submit(client.ask, "DELETE", one, 204) for one in at[1:]]
            for path in ("step", "propagate"):
                pool.submit(client.ask, "POST", f"{at[0]}/{path}").result(10)
        finally:
            release.set()
        assert [future.exception() for future in ended] == [None] * len(ended)


@pytest.mark.parametrize("same", [True, False])
def test_masks_are_refused_before_they_are_decoded(same: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "decode_rle", lambda *_: pytest.fail("was decoded"))
    rle = encode_rle(np.ones(SIZE[::-1], bool))
    prompts = [{"mask": rle, "object_id": 1 if same else k} for k in range(1, 3 if same else 6)]
    with serving(Limits(objects=4)) as client:
        at = client.create()
        client.frame(at, FRAMES[0])
        text = client.ask("POST", f"{at}/prompts", 422 if same else 409, json={"prompts": prompts})
        assert ("two masks" if same else "at most 4") in text


def test_a_step_is_finished_before_its_clients_turn_ends() -> None:
    release, done = threading.Event(), []

    def act() -> None:
        release.wait(10)
        done.append(True)

    async def vanish(service: Service) -> None:
        async with create_task_group() as group:
            group.start_soon(service.apart, act)
            await asyncio.sleep(0.05)
            group.cancel_scope.cancel()
            asyncio.get_running_loop().call_later(0.1, release.set)
        assert done
        await service.close()

    asyncio.run(vanish(Service({"flow": FlowTracker})))


def test_a_session_does_not_expire_while_a_request_is_answered() -> None:
    with serving(Limits(idle_seconds=0.2)) as client:
        client.create()
        (session,) = client.service._sessions.values()
        with session.turn():
            time.sleep(2.5)
            assert client.service.health().sessions == 1


@pytest.mark.logs_errors
def test_expiry_goes_on_after_a_close_that_failed(clip: Path) -> None:
    class Stuck(FlowTracker):
        def reset(self) -> None:
            if hasattr(self, "made"):
                raise RuntimeError
            self.made = True
            super().reset()

    with serving(Limits(idle_seconds=0.3), stuck=Stuck) as client:
        client.upload(client.create(), clip)
        (session,) = client.service._sessions.values()
        end = time.monotonic() + 20
        for _ in range(2):
            while client.service.health().sessions and time.monotonic() < end:
                time.sleep(0.05)
            client.create()
        assert session._folder is not None
        assert not session._folder.exists()
    assert time.monotonic() < end


def test_models_are_loaded_beside_the_server_and_count_at_once() -> None:
    release = threading.Event()

    def slow() -> FlowTracker:
        release.wait(10)
        return FlowTracker()

    async def create(service: Service) -> None:
        first = asyncio.create_task(service.create("me"))
        await asyncio.sleep(0.05)
        with pytest.raises(Refusal, match="1 sessions are open"):
            await service.create("me")
        release.set()
        assert (await first).model == "slow"
        await service.close()

    asyncio.run(create(Service({"slow": slow}, Limits(sessions=1))))


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    def full(**_: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.tempfile, "mkdtemp", full)
    with serving() as client:
        assert "No space" in client.upload(client.create(), clip, 507)


KILLED = """
import os, sys, tempfile
from samvideo.serving.storage import temporary_folder
tempfile.tempdir = sys.argv[1]
with temporary_folder() as folder:
    (folder / "video").touch()
    os._exit(1)
"""


def test_what_a_killed_server_leaves_is_removed_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    (left,) = tmp_path.iterdir()
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "video").mkdir(parents=True)
    (elsewhere / LOCK).touch()
    with storage.temporary_folder() as used:
        (link := tmp_path / f"{storage.PREFIX}link").symlink_to(elsewhere)
        (unknown := tmp_path / f"{storage.PREFIX}without-lock").mkdir()
        ApiServer({"flow": FlowTracker}, ServerSettings(port=0))._listener.close()
        assert not left.exists()
        assert {*tmp_path.iterdir()} == {used, elsewhere, link, unknown}
        assert {*elsewhere.iterdir()} == {elsewhere / "video", elsewhere / LOCK}
    assert not used.exists()


def test_an_address_of_label_studio_needs_its_scheme() -> None:
    with pytest.raises(ConfigError, match="such as http"):
        LabelStudio(Service({"flow": FlowTracker}), "localhost:8080")
