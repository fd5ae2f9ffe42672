import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import pytest
import torch
from evaluation_helpers import RepeatTracker, make_run

from samvideo.evaluation.evaluate import evaluate
from samvideo.evaluation.threads import limit_children


def test_workers_start_with_limited_libraries(davis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    with limit_children(3):
        command = [
            sys.executable,
            "-c",
            "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['MKL_NUM_THREADS'])",
        ]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "3 3\n"
    assert "OMP_NUM_THREADS" not in os.environ
    assert os.environ["MKL_NUM_THREADS"] == "7"


def test_the_command_limits_threads_before_numpy_is_loaded(davis: Path, tmp_path: Path) -> None:
    code = (
        "import sys; import samvideo.evaluation.threads as t; seen = []\n"
        "t.limit_unloaded = lambda count: seen.append(('numpy' in sys.modules, count))\n"
        "from samvideo.cli.main import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "print(seen)"
    )
    command = [
        sys.executable,
        "-c",
        code,
        "evaluate",
        "davis2016",
        str(davis),
        "-o",
        str(tmp_path / "o"),
        "--quiet",
    ]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "[(False, 1)]\n"


def test_threads_are_given_back(davis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    before, seen = cv2.getNumThreads(), []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    make = partial(RepeatTracker, lambda frame: seen.append(cv2.getNumThreads()))
    run = make_run("davis2016", davis, "val", tmp_path / "out", make, limit=1)
    evaluate(replace(run, task=replace(run.task, threads=2)))
    assert set(seen) == {2}
    assert cv2.getNumThreads() == before
    assert threads == [2, 5]
