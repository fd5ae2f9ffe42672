import json
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from evaluation_helpers import RepeatTracker, files, make_run, numbers

from samvideo.errors import ConfigError
from samvideo.evaluation.cluster import RayPool
from samvideo.evaluation.evaluate import evaluate
from samvideo.evaluation.shard import LocalPool, Worker, run_here
from samvideo.evaluation.video import Task
from samvideo.trackers.factory import create_tracker

flow = partial(create_tracker, "flow")


def test_the_same_numbers_whatever_the_number_of_workers(davis: Path, tmp_path: Path) -> None:
    one = evaluate(make_run("davis2016", davis, "val", tmp_path / "one", flow))
    two = evaluate(make_run("davis2016", davis, "val", tmp_path / "two", flow), LocalPool(2))
    assert numbers(one) == numbers(two)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    with pytest.raises(ConfigError, match="at least one worker"):
        LocalPool(0)


def test_a_local_worker_that_dies_is_replaced(davis: Path, tmp_path: Path) -> None:
    import psutil

    calm = evaluate(make_run("davis2016", davis, "val", tmp_path / "calm", flow))
    killed = []

    def pool(task: Task, make: Any, names: Any) -> Any:
        outcomes = LocalPool(1)(task, make, names)
        yield next(outcomes)
        for child in psutil.Process().children():
            if "spawn_main" in " ".join(child.cmdline()):
                child.kill()
                killed.append(child.pid)
        yield from outcomes

    results = evaluate(make_run("davis2016", davis, "val", tmp_path / "out", flow), pool)
    assert killed
    assert numbers(results) == numbers(calm)


def test_a_model_that_cannot_be_made_ends_the_run(davis: Path, tmp_path: Path) -> None:
    for pool in (run_here, LocalPool(2)):
        with pytest.raises(ConfigError, match="no model 'flo'"):
            evaluate(make_run("davis2016", davis, "val", tmp_path / "out", partial(create_tracker, "flo")), pool)


@pytest.mark.slow
def test_a_command_with_workers_killed_and_run_again(davis: Path, tmp_path: Path) -> None:
    import psutil

    calm = evaluate(make_run("davis2016", davis, "val", tmp_path / "calm", flow))
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "samvideo",
        "evaluate",
        "davis2016",
        str(davis),
        "--model",
        "flow",
        "--workers",
        "2",
        "-o",
        str(out),
    ]
    for wanted in (0, 1):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list(out.glob("sequences/[!.]*.json"))) <= wanted:
            time.sleep(0.01)
        workers = psutil.Process(process.pid).children() if process.poll() is None else []
        process.kill()
        process.wait()
        psutil.wait_procs(workers, timeout=10)
        assert not any(worker.is_running() and worker.status() != "zombie" for worker in workers)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    results = json.loads((out / "results.json").read_text())
    assert results["sequences"] == calm["sequences"]
    assert results["scores"] == calm["scores"]
    assert files(out) == files(tmp_path / "calm")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_with_a_worker_killed_in_mid_run(davis: Path, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    import psutil

    calm = evaluate(make_run("davis2016", davis, "val", tmp_path / "calm", flow))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    killed = []

    def pool(task: Task, make: Any, names: Any) -> Any:
        outcomes = RayPool(workers=2)(task, make, names)
        yield next(outcomes)
        for child in psutil.Process().children(recursive=True):
            if child.is_running() and child.name().startswith("ray::Worker") and not killed:
                child.kill()
                killed.append(child.pid)
        yield from outcomes

    try:
        results = evaluate(make_run("davis2016", davis, "val", tmp_path / "out", flow), pool)
    finally:
        ray.shutdown()
    assert killed
    assert numbers(results) == numbers(calm)
    assert files(tmp_path / "out") == files(tmp_path / "calm")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense", "host:port", "[::", ":", ""])
def test_ray_with_nobody_there(address: str, davis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(address: str, **options: Any) -> None:
        raise ValueError(f"ray.init must not be called with {address!r}")

    fake = SimpleNamespace(is_initialized=lambda: False, init=init, shutdown=lambda: None)
    monkeypatch.setitem(sys.modules, "ray", fake)
    with pytest.raises(ConfigError, match="no Ray cluster at") as caught:
        evaluate(make_run("davis2016", davis, "val", tmp_path / "out"), RayPool(address))
    assert "must not be called" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_ray_that_does_not_answer(davis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ray.py").write_text("import time\ndef init(address): time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False))
    monkeypatch.setattr("samvideo.evaluation.cluster.RAY_PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(ConfigError, match="no answer in"):
        pool = RayPool(f"127.0.0.1:{server.getsockname()[1]}")
        evaluate(make_run("davis2016", davis, "val", tmp_path / "out"), pool)
    assert not (tmp_path / "out").exists()


def test_a_worker_reports_instead_of_raising(davis: Path, tmp_path: Path) -> None:
    task = Task("davis2016", davis, "val", "mask", tmp_path)
    failure = Worker(task, RepeatTracker).run("nosuch")
    assert failure is not None
    assert "nosuch is missing" in failure.message
