"""Quantised models: memory attention, files."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tiny_sam import clip, tiny_model

from samvideo.checkpoints import load
from samvideo.compress.fake import OUTSIDE, FakeQuantised, Method, quantise
from samvideo.compress.minmax import MinMax
from samvideo.compress.pqsam import PQSAM
from samvideo.compress.ptq4sam import PTQ4SAM
from samvideo.compress.quantised import METHODS, operation_of
from samvideo.compress.saved import Operation, Recipe, save_compressed
from samvideo.models import VideoModel
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.sam import SamTracker
from samvideo.types import Box

BOX = Box(object_id=1, frame=0, xyxy=(12, 20, 36, 46))
ATTENTION = "memory.attention.layers.0"


def tracked(model: VideoModel, count: int = 2) -> np.ndarray:
    tracker = SamTracker(TorchRuntime(model), logits=True)
    return np.stack([tracker.step(frame, [BOX] if frame.index == 0 else []).logits for frame in clip(count)])


def calibrated(model: VideoModel, method: Method) -> FakeQuantised:
    return quantise(model.fuse(), method, partial(tracked, model))


def error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize("memory", ["plain", "pooled"])
def test_memory_attention_is_quantised(memory: str) -> None:
    model = tiny_model(memory, layers=2)
    before = tracked(model)
    quantised = calibrated(model, MinMax(16))
    sites = {site.name: set(site.quantisers) for site in quantised.sites}
    for name in ("self_attn", "cross_attn_image"):
        assert sites[f"{ATTENTION}.{name}.product"] == {"query", "key", "value", "softmax"}
        for layer in ("q_proj", "k_proj", "v_proj", "out_proj"):
            assert sites[f"{ATTENTION}.{name}.{layer}"] == {"input"}
    assert {"memory.encoder.fuser.layers.0.dwconv", "pointers.obj_ptr_proj.layers.0"} <= set(sites)
    assert OUTSIDE not in quantised.left
    assert error(tracked(model), before) < 2e-3, "layers by themselves compute what they do merged"
    quantised.remove()
    assert np.array_equal(tracked(model), before)
    quantised = calibrated(model, MinMax(3))
    with quantised.only(f"{ATTENTION}.cross_attn_image.product"):
        assert error(tracked(model), before) > 1e-3


def test_attention_of_no_module_is_named() -> None:
    model = load("nano", input_size=64)
    assert OUTSIDE in calibrated(model, MinMax()).left


@pytest.mark.parametrize("method", METHODS)
def test_loaded_model_is_quantised(method: str, tmp_path: Path) -> None:
    model = load("nano", input_size=64)
    before = tracked(model)
    quick = {"ptq4sam": PTQ4SAM(6, steps=1), "pqsam": PQSAM(6, steps=1)}
    made = quick.get(method) or METHODS[method](6)
    operation, tensors = operation_of(method, calibrated(model, made))
    path = tmp_path / "nano.safetensors"
    recipe = Recipe(model="nano", operations=[Operation(name="fuse"), operation])
    save_compressed(path, model, recipe, [{}, tensors])
    wanted = tracked(model)
    assert np.array_equal(tracked(load(weights=path, input_size=64)), wanted)
    assert error(wanted, before) > 1e-4
    if method == "minmax":
        half = SamTracker(TorchRuntime(load(weights=path, input_size=64), dtype="bf16"), logits=True)
        assert np.isfinite(half.step(clip(1)[0], [BOX]).logits).all()
