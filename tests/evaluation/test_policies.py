"""Several memory policies over one data set: each frame encoded once, results as of separate evaluations."""

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from evaluation_helpers import files, make_run, numbers
from tiny_sam import tiny_model
from typer.testing import CliRunner

from samvideo.cli.main import app
from samvideo.errors import ConfigError
from samvideo.evaluation import policies as module
from samvideo.evaluation.evaluate import Evaluation, evaluate
from samvideo.evaluation.policies import evaluate_policies
from samvideo.evaluation.report import write_report
from samvideo.policies import parse_policy
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.flow import FlowTracker
from samvideo.trackers.sam import SamTracker
from samvideo.types import UInt8Array

POLICIES = ("fifo", "samurai:stable_frames=2", "fifo:frames=1,pointers=0")


def create(model: str, *, policy: str) -> SamTracker:
    return SamTracker(TorchRuntime(tiny_model(policy=parse_policy(policy))))


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[UInt8Array]:
    """The frames that were encoded, by tiny models in the place of all others."""
    frames: list[UInt8Array] = []
    encode = TorchRuntime.encode

    def counted(runtime: TorchRuntime, rgb: UInt8Array) -> object:
        frames.append(rgb)
        return encode(runtime, rgb)

    monkeypatch.setattr(TorchRuntime, "encode", counted)
    monkeypatch.setattr(module, "create_tracker", create)
    return frames


def run(root: Path, out: Path, protocol: str = "mask", limit: int | None = None) -> Evaluation:
    return make_run("davis2016", root, "val", out, protocol=protocol, limit=limit)


@pytest.mark.parametrize(
    ("protocol", "policies", "limit", "frames"),
    [("mask", POLICIES, None, 15), ("offline", POLICIES[::2], 1, 8 * 6)],
)
def test_together_as_one_by_one(
    protocol: str,
    policies: tuple[str, ...],
    limit: int | None,
    frames: int,
    davis: Path,
    tmp_path: Path,
    encoded: list[UInt8Array],
) -> None:
    together = evaluate_policies(run(davis, tmp_path / "all", protocol, limit), policies)
    assert len(encoded) == frames
    assert [out.name for out in together] == [re.sub("[:,]", "-", policy) for policy in policies]
    for policy, (out, found) in zip(policies, together.items(), strict=True):
        make, alone = partial(create, "tiny", policy=policy), run(davis, tmp_path / policy, protocol, limit)
        one = replace(alone, make=make, options={"policy": policy})
        want = evaluate(one)
        assert numbers(found) == numbers(want)
        assert files(out) == files(alone.task.out)
        assert json.loads((out / "run.json").read_text())["options"] == {"policy": policy}
        assert found["timing"]["shared_seconds"] < found["timing"]["track_seconds"]
        assert "shared_seconds" not in want["timing"]
        assert evaluate(one)["scores"] == want["scores"], "and the same folder is resumed"
    assert len({str(found["sequences"]) for found in together.values()}) == len(policies), "policies differ"


def test_only_what_is_missing_is_run_again(davis: Path, tmp_path: Path, encoded: list[UInt8Array]) -> None:
    first = evaluate_policies(run(davis, tmp_path / "out"), POLICIES)
    stamp = (tmp_path / "out/fifo/sequences/cow.json").stat().st_mtime_ns
    for left in ("sequences/cow.json", "predictions/cow"):
        (tmp_path / "out/samurai-stable_frames=2" / left).rename(tmp_path / Path(left).name)
    encoded.clear()
    again = evaluate_policies(run(davis, tmp_path / "out"), POLICIES)
    assert len(encoded) == 5
    assert (tmp_path / "out/fifo/sequences/cow.json").stat().st_mtime_ns == stamp
    assert [numbers(one) for one in again.values()] == [numbers(one) for one in first.values()]
    (davis / "Annotations/480p/dog/00001.png").write_bytes(b"no picture")
    failed = evaluate_policies(run(davis, tmp_path / "other"), POLICIES[:2])
    assert [list(found["failed"]) for found in failed.values()] == [["dog"]] * 2
    assert not list(tmp_path.glob("other/*/predictions/*dog*"))


@pytest.mark.usefixtures("encoded")
def test_the_report_states_the_cost(davis: Path, tmp_path: Path) -> None:
    together = evaluate_policies(run(davis, tmp_path / "out"), POLICIES[:2])
    page, table, _ = write_report(list(together), tmp_path / "report.html")
    header, _, *rows = table.read_text().splitlines()[2:6]
    assert [row.split(" | ")[0] for row in sorted(rows)] == ["| repeat, fifo", "| repeat, samurai:stable_frames=2"]
    assert "| fps | ms a frame | shared encoding | objects |" in header
    assert "as\nif it had run alone" in page.read_text()


def test_what_is_refused(davis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate(make_run("davis2016", davis, "val", tmp_path / "out", limit=1))
    with pytest.raises(ConfigError, match="would be written into folders in it"):
        evaluate_policies(run(davis, tmp_path / "out"), POLICIES)
    monkeypatch.setattr(module, "create_tracker", lambda *_, **__: FlowTracker())
    with pytest.raises(ConfigError, match="one --policy at a time"):
        evaluate_policies(run(davis, tmp_path / "flow"), POLICIES)

    def call(*options: str) -> str:
        done = CliRunner().invoke(app, ["evaluate", "davis2016", str(davis), "-o", str(tmp_path / "cli"), *options])
        assert done.exit_code == 2
        return done.stderr

    assert "'fifo' is given twice" in call("--policy", "fifo", "--policy", "fifo:frames=6")
    assert "flow has no policy" in call("--policy", "fifo", "--model", "flow")
    assert "did you mean 'samurai'" in call("--policy", "samuray")
    assert not (tmp_path / "cli").exists()


def test_the_command(davis: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", "davis2016", davis, "-o", tmp_path / "out", "--limit", 1, "--weights", "random"]
    arguments += ["--policy", "fifo", "--policy", "fifo: frames=2,stride=1"]
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    assert "nano, fifo:frames=2\n" in done.output
    assert "for encoding, done once for all policies" in done.output
    assert (tmp_path / "out/fifo-frames=2/results.json").exists()
