"""The benchmark of speed: what it counts, what stands in its file. Nothing here depends on the machine's speed."""

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from tiny_sam import EXPORTED, clip, tiny_model
from typer.testing import CliRunner

from samvideo.cli.main import app
from samvideo.errors import ConfigError
from samvideo.evaluation import bench as module
from samvideo.evaluation import bench_inputs, bench_runtimes, meter
from samvideo.evaluation.bench import HEADER, bench, row
from samvideo.evaluation.bench_chart import draw
from samvideo.evaluation.bench_inputs import Case, Plan, read_clip
from samvideo.memory.base import MemoryPolicy
from samvideo.nn.attention import attend
from samvideo.policies import parse_policy
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.sam import SamTracker
from samvideo.types import Box, FrameResult

CPU = torch.device("cpu")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every case is a model that takes milliseconds."""
    monkeypatch.setattr(module, "ready_model", lambda case, plan: tiny_model())
    monkeypatch.setattr(module.meter, "matmul_peak", lambda device, dtype: 1e11)


def test_flops_are_those_of_the_formulas() -> None:
    a, b = torch.randn(3, 5), torch.randn(5, 7)
    assert meter.count_flops(lambda: a @ b) == 2 * 3 * 5 * 7
    q, k, v = (torch.randn(1, 2, n, 16) for n in (40, 600, 600))
    with torch.inference_mode():
        assert meter.count_flops(lambda: attend(q, k, v)) == 2 * 2 * 40 * 600 * (16 + 16)
        narrow = v[..., :4]
        assert meter.count_flops(lambda: attend(q, k, narrow)) == 2 * 2 * 40 * 600 * (16 + 4)


def test_the_stopwatch_leaves_no_trace() -> None:
    tracker = SamTracker(TorchRuntime(model := tiny_model()))
    watch, frames = meter.Stopwatch(model, model.device), clip(3)
    tracker.step(frames[0], [Box(object_id=1, xyxy=(10, 20, 34, 44))])
    for frame in frames[1:]:
        with watch.frame():
            tracker.step(frame)
    assert set(watch.medians()) == {"preprocess", "encode", "attend_to_memory", "decode", "choose", "encode_memory"}
    assert not set(vars(model)) & set(meter.STAGES)


def test_peaks_are_measured() -> None:
    assert meter.matmul_peak(CPU, torch.float32, side=64) > 0
    meter.reset_peak_memory(CPU)
    assert meter.peak_memory(CPU) > 2**20


def test_every_object_has_a_prompt() -> None:
    read = read_clip(Plan(frames=1, warmup=1), objects=5)
    assert [p.object_id for p in read.prompts] == [1, 2, 3, 4, 5]
    assert len(read.frames) == len(read.decode_seconds) == 3


@pytest.mark.usefixtures("tiny")
def test_the_file(tmp_path: Path) -> None:
    rows: list[str] = []
    cases = [Case("edgetam", None, "cpu", "fp32", count) for count in (1, 2)]
    document = json.loads(json.dumps(bench(cases, Plan(frames=2, warmup=2), rows.append)))
    assert rows[0] == HEADER
    assert len(rows) == 3
    assert "peer" not in document
    first, second = document["cases"]
    assert first["seconds"]["p50"] <= first["seconds"]["p95"]
    assert set(first["stages"]) == {
        "read",
        "preprocess",
        "encode",
        "attend_to_memory",
        "decode",
        "choose",
        "encode_memory",
        "score",
        "write",
    }
    assert first["flops"] < second["flops"] < 2 * first["flops"], "the frame is encoded once for all objects"
    assert first["peak_share"] == pytest.approx(first["flops"] / first["network_seconds"] / 1e11)
    assert 'xmlns="http://www.w3.org/2000/svg"' in draw(document)
    assert first["beside_share"] > 0
    for name in ("prompted", "input_wh"):
        second["objects"], second[name] = 1, [9, 9] if name == "input_wh" else 2
        assert {"prompted": "prompted frames", "input_wh": "input side"}[name] in draw(document)
        second[name] = first[name]
    document["cases"].pop()
    with pytest.raises(ConfigError, match="nothing to draw"):
        draw(document)


@pytest.mark.usefixtures("tiny")
def test_a_long_run_begins_the_clip_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames are held up to a bound; the drawing shows time along the run."""
    monkeypatch.setattr(bench_inputs, "KEPT", 5)
    document = bench([Case("edgetam", None, "cpu", "fp32", 1, prompted=2)], Plan(frames=20, warmup=2))
    course = document["cases"][0]["course"]
    assert [frame for frame, _ in course] == list(range(4, 23, 2))
    assert "against frames" in draw(document)
    with pytest.raises(ConfigError, match="3 prompted frames"):
        bench([Case("edgetam", None, "cpu", "fp32", 1, prompted=3)], Plan(frames=1, warmup=2))


@pytest.mark.usefixtures("tiny")
def test_policies_are_timed_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """One network for all, stepped alternately; each has its own numbers and its ratio to the first."""
    order: list[MemoryPolicy] = []
    step = SamTracker.step

    def noted(tracker: SamTracker, *args: Any, **kwargs: Any) -> FrameResult:
        order.append(tracker.policy)
        return step(tracker, *args, **kwargs)

    monkeypatch.setattr(SamTracker, "step", noted)
    policies, rows = ("fifo", "samurai", "fifo:frames=1,pointers=0"), list[str]()
    document = bench(
        [Case("edgetam", None, "cpu", "fp32", policies=policies)], Plan(frames=10, warmup=8), rows.append
    )
    assert order[24:54] == [parse_policy(policy) for policy in policies] * 10
    cases = document["cases"]
    assert [case["policy"] for case in cases] == list(policies)
    assert cases[0]["ratio"] == 1
    assert cases[0]["flops"] > cases[2]["flops"]
    assert cases[0]["flops"] == pytest.approx(cases[1]["flops"], rel=0.2)
    assert f"policy samurai: {cases[1]['ratio']:.2f}x the time of the first" in rows[2]
    assert "edgetam 64 float32, samurai" in draw(document)
    for case, plan in (
        (Case("edgetam", policies=("x",)), Plan()),
        (Case("edgetam", policies=("fifo",)), Plan(peer="transformers")),
    ):
        with pytest.raises(ConfigError, match=r"no memory policy 'x'|leave --peer or --policy out"):
            bench([case], plan)


def test_a_row_names_the_peer() -> None:
    case = {
        "model": "edgetam",
        "input_wh": [1024, 1024],
        "objects": 1,
        "device": "cpu",
        "dtype": "float32",
        "seconds": {"p50": 0.5, "p95": 0.6},
        "fps": 2.0,
        "flops": 1e11,
        "peak_share": 0.5,
        "peak_memory": 2**30,
        "stages": {"encode": 0.2},
        "beside_share": 0.05,
        "peer": {
            "dtype": "float32",
            "seconds": {"p50": 1.5},
            "parameters": 13_900_000,
            "speedup": 3.0,
            "cpu_speedup": 3.1,
            "mask_iou": {"mean": 1.0, "min": 0.99},
        },
    }
    line, stages, peer = row(case).splitlines()
    assert len(line) == len(HEADER)
    assert line.endswith("3.00x")
    assert "encode 200" in stages
    assert "13.9 M" in peer


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match="no model is called 'x'"):
        bench([Case("x")], Plan())
    with pytest.raises(ConfigError, match="no peer is called 'y'"):
        bench([Case("edgetam")], Plan(peer="y"))
    for arguments in (["--objects", "a"], ["--sizes", "0"], ["--peer-dtype", "int8"]):
        assert CliRunner().invoke(app, ["bench", *arguments]).exit_code == 2


@pytest.mark.usefixtures("tiny")
def test_the_command(tmp_path: Path) -> None:
    arguments = ["bench", "edgetam", "--devices", "cpu", "--dtypes", "fp32", "--frames", "1", "--warmup", "1"]
    done = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "b.json")])
    assert done.exit_code == 0, done.output
    assert "edgetam" in done.output
    assert json.loads((tmp_path / "b.json").read_text())["cases"][0]["model"] == "edgetam"
    (tmp_path / "mine.json").write_text("{}")
    for option, name in (
        ("-o", "b.json"),
        ("--plot", "mine.json"),
        ("--accuracy", "mine.json"),
        ("-o", "mine.json/new.json"),
        ("--overwrite", ""),
    ):
        place = ["-o"] if option == "--overwrite" else []
        again = CliRunner().invoke(app, [*arguments, option, *place, str(tmp_path / name)])
        assert again.exit_code in (2, 3, 5), again.output
        assert "p50" not in again.output
    assert (tmp_path / "mine.json").read_text() == "{}"


def test_runtimes_are_timed_beside_each_other(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_runtimes, "ready_model", lambda case, plan: tiny_model(**EXPORTED))
    monkeypatch.setattr(bench_runtimes, "export_model", lambda model, folder, **_: copytree(exported, folder))
    rows: list[str] = []
    plan = Plan(frames=2, warmup=2, runtimes=("torch", "onnx"))
    document = json.loads(json.dumps(bench([Case("edgetam", None, "cpu")], plan, rows.append)))
    assert [case["runtime"] for case in document["cases"]] == ["torch", "onnx", "torch:fp32"]
    torch_, onnx, reference = document["cases"]
    assert torch_["speed"] == 1
    assert reference["mask_iou"] == {"mean": 1, "min": 1}
    assert onnx["mask_iou"]["min"] > 0.99
    assert rows[0] == bench_runtimes.HEADER
    assert len(rows) == 4


@pytest.mark.parametrize(
    ("case", "options", "message"),
    [
        (Case("edgetam"), {"runtimes": ("abacus",)}, "no runtime is called 'abacus'"),
        (Case("edgetam"), {"runtimes": ("onnx:int3",)}, "no runtime is called 'onnx:int3'"),
        (Case("edgetam"), {"runtimes": ("torch=folder",)}, "no runtime is called 'torch=folder'"),
        (Case("nano"), {}, "nano is timed beside its exports"),
        (Case("sam-vit-b"), {"runtimes": ("onnx",)}, "sam-vit-b is none"),
        (Case("edgetam", policies=("fifo",)), {"runtimes": ("onnx",)}, "own policy"),
        (Case("edgetam"), {"runtimes": ("onnx",), "peer": "transformers"}, "--runtimes times alone"),
    ],
)
def test_what_runtimes_are_not_compared_in(case: Case, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bench([case], Plan(**options))
