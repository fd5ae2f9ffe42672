"""The exported bundled model tracks as the model itself does, on frames of any size."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_sam import clip

from samvideo.checkpoints import load
from samvideo.deploy.detail import Detail, sample
from samvideo.deploy.manifest import read_constants
from samvideo.deploy.nano_runtime import runtime_of
from samvideo.errors import ConfigError
from samvideo.evaluation.bench import bench
from samvideo.evaluation.bench_inputs import Case, Plan
from samvideo.geometry import Window
from samvideo.policies import parse_policy, text_of
from samvideo.specs import NANO
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.sam import SamTracker
from samvideo.types import Box, FrameResult, Mask, Points
from samvideo.windows import Detail as TorchDetail
from samvideo.windows import sample as torch_sample

SIZE = (160, 96)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    from samvideo.deploy.bundle import export_model

    return export_model(load("nano", input_size=SIZE), tmp_path_factory.mktemp("export") / "nano")


def tracked(runtime: object, size_wh: tuple[int, int]) -> list[FrameResult]:
    """Eight frames: a box, a click, another object's mask, a correction and a saved state."""
    width, height = size_wh
    tracker = SamTracker(runtime, logits=True)  # type: ignore[arg-type]
    mask = np.zeros((height, width), bool)
    mask[5:30, 20:50] = True
    prompts = {
        0: [Box((10, 10, 40, 40), object_id=1), Points([[30.0, 30.0]], [1], object_id=3)],
        2: [Mask(mask, object_id=2)],
        4: [Points([[20.0, 20.0]], [0], object_id=1)],
    }
    results = []
    for frame in clip(8, size_wh):
        if frame.index == 5:
            tracker.restore(tracker.state())
        results.append(tracker.step(frame, prompts.get(frame.index, [])))
    return results


@pytest.mark.long
@pytest.mark.parametrize("size_wh", [(64, 64), (120, 70)], ids=str)
def test_tracks_as_the_model_does(exported: Path, size_wh: tuple[int, int]) -> None:
    from samvideo.deploy.onnx_runtime import open_onnx

    theirs = tracked(open_onnx(exported, threads=1), size_wh)
    for a, b in zip(tracked(TorchRuntime(load("nano", input_size=SIZE)), size_wh), theirs, strict=True):
        assert a.object_ids == b.object_ids
        assert a.logits is not None
        assert b.logits is not None
        assert np.linalg.norm(a.logits - b.logits) <= 1e-3 * np.linalg.norm(a.logits), a.index
        assert np.mean(a.masks != b.masks) <= 1e-3
        assert np.allclose(a.scores, b.scores, atol=1e-3)


@pytest.mark.long
def test_int8_tracks_nearly_as_the_model_does(exported: Path, tmp_path: Path) -> None:
    from samvideo.deploy.calibration import record
    from samvideo.deploy.onnx_runtime import OnnxGraph, open_graphs
    from samvideo.deploy.precision import to_int8

    def objects(runtime: object) -> np.ndarray:
        return np.stack([result.masks[0] for result in tracked(runtime, (120, 70))])

    manifest, graphs = open_graphs(exported, threads=1)
    constants, found = read_constants(exported, manifest), []
    samples = record(exported, manifest, lambda runtime: found.append(objects(runtime)))
    for stage in ("encode", "track"):
        path = Path(shutil.copy(exported / f"{stage}.onnx", tmp_path))
        to_int8(path, stage, samples[stage], decoder=True)
        assert path.stat().st_size < (exported / f"{stage}.onnx").stat().st_size * 0.4
        graphs[stage] = OnnxGraph(path, ["CPUExecutionProvider"], 1)
    assert np.mean(found[0] != objects(runtime_of(manifest, constants, graphs))) <= 0.02


@pytest.mark.long
def test_is_timed_as_it_was_exported(exported: Path) -> None:
    rows: list[str] = []
    document = bench([Case("nano", device="cpu")], Plan(2, 2, runtimes=(f"onnx={exported}",)), rows.append)
    assert [case["runtime"] for case in document["cases"]] == ["torch", "onnx=nano", "torch:fp32"]
    assert str(exported) not in json.dumps(document)


def test_int8_is_calibrated() -> None:
    pytest.importorskip("onnxruntime")
    from samvideo.deploy.bundle import export_model

    with pytest.raises(ConfigError, match="give --calibrate"):
        export_model(load("nano"), Path("out"), precision="int8")


@pytest.mark.long
def test_policies_that_merge_tokens_are_refused(exported: Path) -> None:
    from samvideo.deploy.onnx_runtime import open_onnx

    with pytest.raises(ConfigError, match="cannot be merged"):
        open_onnx(exported, policy="consolidated")


@pytest.mark.parametrize("window", [Window(10, 5, 20), Window(-7, 30, 40), Window(-20, -30, 150)], ids=str)
def test_windows_are_those_of_the_model(window: Window) -> None:
    logits = np.random.default_rng(0).normal(size=(3, 24, 24)).astype(np.float32)
    pasted = TorchDetail(torch.from_numpy(logits), window).paste((90, 50)).numpy()
    for row, expected in zip(logits, pasted, strict=True):
        assert np.allclose(Detail(row, window).paste((90, 50)), expected, atol=1e-4)
    region = window.shares((90, 50))
    expected = torch_sample(torch.from_numpy(logits)[None], torch.tensor([region]), (40, 30))[0].numpy()
    assert np.allclose(sample(logits, region, (40, 30)), expected, atol=1e-4)


def test_policies_as_text() -> None:
    assert parse_policy(text_of(NANO.policy)) == NANO.policy
    assert text_of("fifo") == "fifo"
    with pytest.raises(ConfigError, match="samvideo models --policies"):
        text_of(object())  # type: ignore[arg-type]
