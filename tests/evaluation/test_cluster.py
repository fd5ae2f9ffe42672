"""How a Ray cluster is divided among actors, and the pool on one, without Ray."""

import logging
import sys
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from samvideo.errors import ConfigError
from samvideo.evaluation.cluster import RayPool, share_of


@dataclass
class FakeRay:
    """Places as many actors as there are cores for, as soon as earlier ones are not referred to any more."""

    nodes_: Sequence[tuple[int, int]] = ()
    busy: bool = False
    asked: dict[str, Any] = field(default_factory=dict)
    placed: list[weakref.ref[Any]] = field(default_factory=list)
    exceptions = SimpleNamespace(RayTaskError=ArithmeticError, RayActorError=LookupError)

    def is_initialized(self) -> bool:
        return bool(self.nodes_)

    def init(self, num_cpus: int | None, **options: Any) -> None:
        self.nodes_ = [(num_cpus or 4, 0)]

    def shutdown(self) -> None:
        pass

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": float(c), "GPU": float(g)}} for c, g in self.nodes_]

    def remote(self, **asked: Any) -> Any:
        self.asked = asked
        return lambda kind: SimpleNamespace(remote=FakeActor)

    def is_placed(self, future: "FakeFuture") -> bool:
        if future.actor not in self.placed:
            alive = sum(actor() is not None for actor in self.placed)
            if self.busy or alive * self.asked["num_cpus"] >= self.nodes_[0][0]:
                return False
            self.placed.append(future.actor)
        return True

    def wait(self, futures: list["FakeFuture"], num_returns: int = 1, timeout: float | None = None) -> Any:
        ready = [future for future in futures if self.is_placed(future)][:num_returns]
        self.busy = False
        assert ready or timeout is not None, "waits without end"
        return ready, [future for future in futures if future not in ready]

    def get(self, future: "FakeFuture") -> None:
        return None


@dataclass(frozen=True)
class FakeFuture:
    actor: Any
    name: str


class FakeActor:
    def __init__(self, *given: Any) -> None:
        own = weakref.ref(self)
        self.run = SimpleNamespace(remote=lambda name="": FakeFuture(own, name))
        self.__ray_ready__ = self.run


def run_pool(ray: FakeRay, monkeypatch: pytest.MonkeyPatch, workers: int | None, threads: int) -> list[str]:
    monkeypatch.setitem(sys.modules, "ray", ray)
    task: Any = SimpleNamespace(threads=threads)
    return sorted(name for name, failure in RayPool(workers=workers)(task, object, ["a", "b", "c"]))


@pytest.mark.parametrize(
    ("nodes", "wanted", "cores", "expected"),
    [
        ([(8, 2)], 3, 1, (3, 0.5)),
        ([(8, 2)], 2, 1, (2, 1.0)),
        ([(8, 1)], 6, 1, (6, 0.1666)),
        ([(8, 2), (8, 0)], None, 1, (2, 1.0)),
        ([(2, 4), (16, 1)], None, 1, (3, 1.0)),
        ([(2, 4), (16, 1)], 5, 1, (5, 0.3333)),
        ([(7, 0), (5, 0)], None, 2, (5, 0.0)),
        ([(128, 0)], None, 1, (64, 0.0)),
    ],
)
def test_shares_of_a_cluster_fit_together(
    nodes: list[tuple[int, int]], wanted: int | None, cores: int, expected: tuple[int, float]
) -> None:
    share = share_of(FakeRay(nodes), wanted, 64, cores)
    assert (share.count, share.cores, share.gpus) == (expected[0], cores, expected[1])


@pytest.mark.parametrize(
    ("nodes", "wanted", "cores", "message"),
    [
        ([(3, 0), (3, 0)], 3, 2, "3 workers with 2 cores each: the cluster has places for 2, ask for fewer, or"),
        ([(2, 0)], None, 4, "1 workers with 4 cores each: the cluster has places for 0"),
        ([(2, 1), (64, 0)], 3, 1, "3 workers with 1 core each: the cluster has places for 2, ask for fewer$"),
    ],
)
def test_actors_that_never_fit_are_refused(
    nodes: list[tuple[int, int]], wanted: int | None, cores: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        share_of(FakeRay(nodes), wanted, 64, cores)


def test_a_cluster_is_started_with_cores_for_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay()
    assert run_pool(ray, monkeypatch, workers=2, threads=4) == ["a", "b", "c"]
    assert (ray.nodes_, ray.asked["num_cpus"]) == ([(8, 0)], 4)


def test_a_worker_without_a_video_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay([(4, 0), (4, 0)])  # another program has taken the second node
    assert run_pool(ray, monkeypatch, workers=2, threads=4) == ["a", "b", "c"]


def test_what_a_pool_waits_for_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        run_pool(FakeRay([(4, 0)]), monkeypatch, workers=1, threads=4)
        assert not caplog.messages
        run_pool(FakeRay([(4, 0)], busy=True), monkeypatch, workers=1, threads=4)
    assert "the first worker has not started in 60 s" in caplog.text
    assert "waits for 4 cores that other programs" in caplog.text
