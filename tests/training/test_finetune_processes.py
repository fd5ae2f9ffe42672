"""`samvideo finetune --nproc`: two processes do what one does, and one that ends is told."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny_tune
import torch
from miniature import miniature
from tiny_tune import write_shapes
from torch import nn
from typer.testing import CliRunner

from samvideo.cli.main import app
from samvideo.models import VideoModel
from samvideo.training import engine, finetune

STEPS = 4


class Course:
    """Of the trainings in this process: the losses of their steps, and their models."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.losses: list[dict[str, float]] = []
        self.models: list[VideoModel] = []
        self._fit = finetune.fit
        patch.setattr(finetune, "fit", self._noted)
        patch.setattr(finetune, "load", self._load)

    def _load(self, name: str, weights: Path | None) -> VideoModel:
        self.models.append(miniature("efficienttam"))
        return self.models[-1]

    def _noted(self, model: nn.Module, gradients: Callable[[int], Any], *others: Any) -> None:
        def noted(step: int) -> Mapping[str, torch.Tensor]:
            parts: Mapping[str, torch.Tensor] = gradients(step)
            self.losses.append({name: value.item() for name, value in parts.items()})
            return parts

        self._fit(model, noted, *others)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("clips"))


@pytest.fixture(autouse=True)
def course(monkeypatch: pytest.MonkeyPatch) -> Course:
    monkeypatch.setattr(finetune, "help_learn", tiny_tune.beside)
    return Course(monkeypatch)


def tune(out: Path, data: Path, *options: str, code: int = 0) -> str:
    given = ["finetune", "edgetam", "--data", f"folder={data}", "-o", str(out), "--weights", "random"]
    given += ["--device", "cpu", "--threads", "1", "--steps", str(STEPS), "--length", "3", "--batch", "2"]
    done = CliRunner().invoke(app, [*given, *options])
    assert done.exit_code == code, done.output
    return done.output


def test_two_processes_equal_one_and_resume_what_a_killed_one_left(
    data: Path, tmp_path: Path, course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses within 1e-3, weights within 1e-2 of what they change: Adam divides small sums, in another order."""
    for count in "12":
        tune(tmp_path / count, data, "--nproc", count)
    alone, shared = course.losses[:STEPS], course.losses[STEPS:]
    assert len(shared) == STEPS
    for one, two in zip(alone, shared, strict=True):
        assert two == pytest.approx(one, rel=1e-3)
    assert alone[0] != pytest.approx(alone[1], rel=1e-2)
    before, one, two = (
        nn.utils.parameters_to_vector(model.parameters()) for model in (miniature("efficienttam"), *course.models)
    )
    assert (two - one).norm() < 0.01 * (one - before).norm()
    monkeypatch.setattr(engine, "REPORT_SECONDS", -1.0)
    with monkeypatch.context() as patch:
        patch.setattr(finetune, "help_learn", tiny_tune.killed)
        said = tune(tmp_path / "killed", data, "--nproc", "2", code=5)
        assert "another process of this training has ended" in said
        assert "the same command resumes it" in said
    said = tune(tmp_path / "killed", data, "--nproc", "2")
    assert f"resumed after step {tiny_tune.KILLED_AFTER}" in said
    results = [tmp_path / name / "model.safetensors" for name in ("2", "killed")]
    assert results[0].read_bytes() == results[1].read_bytes()


def test_the_error_of_another_process_is_told(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetune, "help_learn", tiny_tune.without_frames)
    assert "error: 00003.png is damaged: restore it" in tune(tmp_path / "run", data, "--nproc", "2", code=3)


ORPHANED = """
import os, signal, sys
from samvideo.training import processes

def killed(started, others):
    wait(started, others)
    print(others[0].pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    wait, processes._wait = processes._wait, killed
    with processes.joined(2, print):
        pass
"""
"""The first of two processes, killed before they form a group."""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for the process in /proc")
def test_the_others_end_with_a_first_process_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "orphaned.py"
    script.write_text(ORPHANED)
    environment = os.environ | {"PYTHONPATH": str(Path(tiny_tune.__file__).parent), "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        other = Path("/proc", first.stdout.readline().strip())
    assert first.returncode == -signal.SIGKILL
    end = time.monotonic() + 20
    try:
        while _runs(other) and time.monotonic() < end:
            time.sleep(0.1)
        assert not _runs(other)
    finally:
        if _runs(other):
            os.kill(int(other.name), signal.SIGKILL)


def _runs(process: Path) -> bool:
    """Whether there is such a process, and it is not a zombie."""
    try:
        return "State:\tZ" not in (process / "status").read_text()
    except OSError:
        return False


def test_the_others_end_with_a_training_that_is_stopped_early(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetune, "validate", lambda *_: {"J&F": 0.5})
    assert "ended after step 1" in tune(tmp_path, data, "--nproc", "2", "--every", "1", "--patience", "1")
