"""Exported models track as the model itself does, and what is wrong with an export is said."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_disk import small_disk
from tiny_sam import EXPORTED as SPEC
from tiny_sam import clip, tiny_model

from samvideo.errors import ConfigError, OutputError, SamVideoError, WeightsError
from samvideo.io.files import writing
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.calibration import track_middle
from samvideo.trackers.factory import create_tracker
from samvideo.trackers.sam import SamTracker
from samvideo.types import Box, FrameResult, Mask, Points

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from samvideo.deploy.bundle import export_model
from samvideo.deploy.graph_runtime import GraphTokens
from samvideo.deploy.graphs import graphs_of
from samvideo.deploy.manifest import STAGES, file_of
from samvideo.deploy.onnx_runtime import open_onnx
from samvideo.deploy.openvino_runtime import convert, import_openvino, open_core, open_openvino
from samvideo.deploy.precision import to_float16, to_int8


def tracked(runtime: object) -> list[FrameResult]:
    """Twelve frames: a box, another object's mask, a correction, absence, and a saved state."""
    tracker = SamTracker(runtime, logits=True)  # type: ignore[arg-type]
    mask = np.zeros((64, 64), bool)
    mask[10:30, 20:50] = True
    prompts = {
        0: [Box((10, 10, 40, 40), object_id=1)],
        2: [Mask(mask, object_id=2)],
        4: [Mask(np.zeros((64, 64), bool), object_id=2)],
        6: [Points([[20.0, 20.0]], [0], object_id=1)],
    }
    results = []
    for frame in clip(12):
        if frame.index == 8:
            tracker.restore(tracker.state())
        results.append(tracker.step(frame, prompts.get(frame.index, [])))
    return results


def check_equal(ours: list[FrameResult], theirs: list[FrameResult]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert a.object_ids == b.object_ids
        assert a.logits is not None
        assert b.logits is not None
        assert np.linalg.norm(a.logits - b.logits) <= 1e-3 * np.linalg.norm(a.logits), a.index
        assert np.mean(a.masks != b.masks) <= 1e-3
        assert np.allclose(a.scores, b.scores, atol=1e-3)
        assert np.array_equal(a.present, b.present)


@pytest.fixture(scope="module")
def expected() -> list[FrameResult]:
    return tracked(TorchRuntime(tiny_model(**SPEC)))


def test_tracks_as_the_model_does(exported: Path, expected: list[FrameResult]) -> None:
    check_equal(expected, tracked(open_onnx(exported, threads=1)))


def installed_openvino() -> Any:
    try:
        return import_openvino()
    except ConfigError as error:
        pytest.skip(str(error))


def check_close(ours: list[FrameResult], theirs: list[FrameResult]) -> None:
    """On average: on a frame or two, another of the mask candidates may be chosen."""
    assert np.mean([np.mean(a.masks != b.masks) for a, b in zip(ours, theirs, strict=True)]) <= 0.05


def test_openvino_says_that_a_disk_is_full(exported: Path, tmp_path: Path) -> None:
    installed_openvino()
    graph = tmp_path / "encode.onnx"
    graph.write_bytes((exported / graph.name).read_bytes())
    with (
        small_disk(graph.stat().st_size // 2),
        pytest.raises(OutputError, match="free some space"),
        writing(tmp_path),
    ):
        convert(graph)


def test_int8_and_the_format_of_openvino(exported: Path, expected: list[FrameResult], tmp_path: Path) -> None:
    installed_openvino()
    model, options = (
        tiny_model(**SPEC),
        {"to": "openvino", "precision": "int8", "calibrate": partial(track_middle, frames=clip(8))},
    )
    folder = export_model(model, tmp_path / "tiny", **options)  # type: ignore[arg-type]
    assert {path.suffix for path in folder.iterdir()} == {".xml", ".bin", ".npz", ".json"}
    assert (folder / "encode.bin").stat().st_size < (exported / "encode.onnx").stat().st_size / 2
    check_close(expected, tracked(open_openvino(folder, threads=1)))
    with pytest.raises(ConfigError, match="--runtime openvino"):
        open_onnx(folder)
    with pytest.raises(ConfigError, match="no device 'abacus' here: auto, cpu expected"):
        open_openvino(folder, device="abacus")
    (folder / "encode.bin").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"encode\.bin is damaged"):
        open_openvino(folder)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_other_precisions(precision: str, exported: Path, expected: list[FrameResult], tmp_path: Path) -> None:
    folder = shutil.copytree(exported, tmp_path / "copy")
    for name in STAGES:
        path, before = folder / f"{name}.onnx", (folder / f"{name}.onnx").read_bytes()
        to_float16(path, name) if precision == "fp16" else to_int8(path, name, None)
        assert (path.read_bytes() == before) == (name in ("prompt", "remember"))
    changed(folder, graphs={name: asdict(file_of(folder / f"{name}.onnx")) for name in STAGES}, precision=precision)
    check_close(expected, tracked(open_onnx(folder, threads=1)))


def test_bfloat16_is_for_devices_that_have_it(
    exported: Path, expected: list[FrameResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(exported, tmp_path / "copy")
    changed(folder, precision="bf16")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(ConfigError, match="track with --runtime openvino"):
        open_onnx(folder, device="cpu")
    installed_openvino()
    if "BF16" in open_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        check_close(expected, tracked(open_openvino(folder, threads=1)))
    else:
        with pytest.raises(ConfigError, match="no instructions for bfloat16"):
            open_openvino(folder)


def test_openvino_reads_onnx(exported: Path, expected: list[FrameResult]) -> None:
    installed_openvino()
    check_equal(expected, tracked(open_openvino(exported, threads=1)))


def test_signals_are_survived_after_openvino_was_used(exported: Path) -> None:
    installed_openvino()
    code = f"""
import gc, signal
import numpy as np
from samvideo.trackers.factory import create_tracker
from samvideo.types import Box, Frame
def used():
    tracker = create_tracker("auto", weights={str(exported)!r}, runtime="openvino")
    tracker.step(Frame(0, 0.0, np.zeros((48, 64, 3), np.uint8)), [Box((5, 5, 30, 30), object_id=1)])
    return tracker
first = used()
second = used()
del first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it for jobs in the background
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "interrupted"), done.stderr


@pytest.mark.long
@pytest.mark.parametrize("memory", ["pooled", "pooled-2", "perceiver"])
def test_memories_and_a_fixed_number_of_objects(memory: str, tmp_path: Path) -> None:
    export_model(tiny_model(memory, **SPEC), tmp_path / "m", objects=3)
    check_equal(tracked(TorchRuntime(tiny_model(memory, **SPEC))), tracked(open_onnx(tmp_path / "m", threads=1)))


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_torch_is_not_imported(runtime: str, exported: Path) -> None:
    if runtime == "openvino":
        installed_openvino()
    code = f"""
import sys
import numpy as np
from samvideo.trackers.factory import create_tracker
from samvideo.types import Box, Frame
tracker = create_tracker("auto", weights={str(exported)!r}, runtime={runtime!r})
for index in range(3):
    rgb = np.full((48, 64, 3), 20 * index, np.uint8)
    result = tracker.step(Frame(index, index / 25, rgb), [Box((5, 5, 30, 30), object_id=1)] * (index == 0))
print(result.masks.shape, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1, 48, 64) False"


def changed(folder: Path, **values: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: changed(folder, format="other"), "format is 'other'"),
        (lambda folder: changed(folder, capacity=[0, 1]), "capacity.0 is 0"),
        (lambda folder: changed(folder, constants={"name": "../x", "sha256": ""}), r"'\.\./x': a name"),
        (lambda folder: changed(folder, graphs={}), "lists no graph"),
        (lambda folder: (folder / "track.onnx").unlink(), "track.onnx is missing"),
        (lambda folder: (folder / "track.onnx").write_bytes(b"x"), "track.onnx is damaged or was changed"),
        (lambda folder: (folder / "manifest.json").unlink(), "folder that `samvideo export-model` wrote"),
    ],
)
def test_broken_exports(change: object, message: str, exported: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(exported, tmp_path / "copy")
    change(folder)  # type: ignore[operator]
    with pytest.raises(WeightsError, match=message):
        open_onnx(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "nowhere"}, "nowhere is not there: the runtime onnx takes the folder"),
        ({"weights": __file__}, r"test_onnx.py is a file: the runtime onnx takes the folder"),
        ({"weights": str(Path(__file__).parent)}, "folder that `samvideo export-model` wrote"),
        ({"weights": "nowhere.pt", "model": "edgetam"}, "there is no file nowhere.pt"),
        ({"weights": None, "model": "flow"}, "flow is not a network"),
        ({"policy": "fifo:prompted=30"}, "recalls up to"),
        ({"dtype": "bf16"}, "leave --dtype bf16 out"),
        ({"memory": "perceiver"}, "leave --memory perceiver out"),
        ({"device": "abacus"}, "no device of ONNX Runtime"),
        ({"model": "edgetam"}, "holds tiny, not edgetam"),
        ({"runtime": "abacus"}, "torch, onnx, openvino expected"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, str], message: str, exported: Path) -> None:
    given = {"model": "auto", "weights": str(exported), "runtime": "onnx"} | options
    with pytest.raises(SamVideoError, match=message):
        create_tracker(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("package", "extra", "opened"), [("onnxruntime", "onnx", open_onnx), ("openvino", "openvino", open_openvino)]
)
def test_a_missing_package_is_named(
    package: str, extra: str, opened: Callable[[Path], object], exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"samvideo\[{extra}\]"):
        opened(exported)


def test_tokens_are_stored_as_in_pytorch() -> None:
    import torch

    values = np.random.default_rng(0).normal(size=(16, 64)).astype(np.float32)
    rounded = torch.from_numpy(values).bfloat16().float().numpy()
    assert np.array_equal(GraphTokens.of(values).features, rounded)


def test_models_with_windows_are_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be exported"):
        graphs_of(tiny_model(pointers=False))
