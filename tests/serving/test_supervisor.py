"""Starting replicas and waiting for them, without a cluster."""

import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs samvideo[serve]")

from samvideo.errors import SamVideoError
from samvideo.evaluation.cluster import Share
from samvideo.serving.front import Front
from samvideo.serving.limits import Limits
from samvideo.serving.replicas import Replicas, ReplicaSettings, serve_replicas
from samvideo.serving.server import LOOK, ServerSettings
from samvideo.trackers.flow import FlowTracker


def test_no_more_replicas_than_sessions_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Limits] = []

    def start(name: str, models: Any, settings: ServerSettings, *others: Any) -> None:
        made.append(settings.limits)
        raise SamVideoError("the first replica is made")

    ray = SimpleNamespace(is_initialized=lambda: True, nodes=lambda: [{"Alive": True, "Resources": {"CPU": 128.0}}])
    ray.remote = lambda **asked: lambda kind: SimpleNamespace(remote=start)
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(SamVideoError, match="the first replica is made"):
        serve_replicas({"flow": FlowTracker}, ServerSettings(port=0), ReplicaSettings(), lambda server: None)
    assert made[0].sessions == 1


class NoReplica(Exception):
    """Stands for Ray's errors."""


def supervisor(ready: bool) -> Replicas:
    """Replicas that fail if they are ready."""

    def wait(futures: list[object], timeout: float) -> tuple[list[object], list[object]]:
        assert futures, "returns at once"
        return (futures, []) if ready else ([], futures)

    def get(future: object) -> None:
        raise NoReplica

    ray = SimpleNamespace(wait=wait, get=get, exceptions=SimpleNamespace(RayError=NoReplica))
    actor = SimpleNamespace(place=SimpleNamespace(remote=object))
    return Replicas(ray, Front(), lambda name: actor, Share(2, 1, 0.5))


def test_replicas_that_do_not_start_are_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("samvideo.serving.replicas.START_PATIENCE", 0.0)
    found = supervisor(ready=False)
    for _ in range(2):
        found.look(first=True)
    assert len(caplog.messages) == 2
    assert "replica 1 has not started" in caplog.text
    assert "waits for 1 core and 0.5 of a GPU that other programs" in caplog.text


def test_the_supervisor_rests_until_it_tries_again() -> None:
    found = supervisor(ready=True)
    found.look()
    began = time.monotonic()
    found.look()
    assert time.monotonic() - began >= LOOK * 0.9
