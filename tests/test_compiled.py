"""Compiled stages, on the CPU; `test_gpu.py` has them as CUDA graphs."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import device_table
import numpy as np
import pytest
import torch
from tiny_sam import clip, tiny_model

from samvideo import compiled
from samvideo.compiled import CompiledRuntime, check_compiler
from samvideo.errors import ConfigError
from samvideo.memory.attention import mask_bias
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.factory import create_tracker
from samvideo.trackers.sam import SamTracker
from samvideo.types import Box, FrameResult

CPU = torch.device("cpu")
PROMPTS = {0: [Box((10, 20, 40, 60)), Box((5, 5, 30, 30), object_id=2)], 3: [Box((15, 5, 30, 30), object_id=3)]}


def tracked(runtime: Callable[..., TorchRuntime], memory: str = "plain", **options: Any) -> list[FrameResult]:
    tracker = SamTracker(runtime(tiny_model(memory), **options), logits=True)
    return [tracker.step(frame, PROMPTS.get(frame.index, [])) for frame in clip(7)]


def check_equal(found: list[FrameResult], expected: list[FrameResult]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.object_ids == other.object_ids
        assert one.logits is not None
        assert np.linalg.norm(one.logits - other.logits) <= 1e-3 * np.linalg.norm(other.logits)


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Functions as they are in place of compiled ones; the options of each."""
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(compiled.torch, "compile", lambda function, **options: seen.append(options) or function)
    monkeypatch.setattr(compiled, "check_compiler", lambda device: None)
    return seen


@pytest.mark.parametrize("memory", ["plain", "pooled", "affinity-ridge"])
def test_filled_batches_and_full_memories_change_nothing(memory: str, uncompiled: list[dict[str, Any]]) -> None:
    check_equal(tracked(CompiledRuntime, memory), tracked(TorchRuntime, memory))
    assert uncompiled == 3 * [{"dynamic": False, "mode": None}]


@pytest.mark.long
def test_compiled_stages_give_the_same_masks() -> None:
    check_equal(tracked(CompiledRuntime), tracked(TorchRuntime))


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="cpu and cuda, not for mps"):
        check_compiler(torch.device("mps"))
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match=r"needs a C\+\+ compiler.*no-such-compiler"):
        CompiledRuntime(tiny_model())


def test_a_tracker_without_a_network_cannot_be_compiled() -> None:
    with pytest.raises(ConfigError, match="flow has no network to compile"):
        create_tracker("flow", compiled=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_masked_keys_have_no_weight(dtype: torch.dtype) -> None:
    valid = torch.tensor([[True, False, True], [False, False, False]])
    weights = (torch.full((2, 1, 1, 3), -3.0, dtype=dtype) + mask_bias(valid, dtype)).float().softmax(-1)
    assert weights[0, 0, 0].tolist() == [0.5, 0, 0.5]
    bias = mask_bias(valid, dtype)
    assert bias.isfinite().all()
    assert bias.softmax(-1).isfinite().all()


def test_the_gpu_check(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It skips without a GPU; what cannot run gives its reason, and what ran is in the file at once."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    gpu_check = importlib.import_module("gpu_check")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main([]) == 0
    assert "no CUDA device" in capsys.readouterr().out
    table = device_table.Table(tmp_path / "new" / "table.md", "# A", float("inf"))
    variants = gpu_check.torch_variants(gpu_check.tiny_subject(), CPU)[:3]
    device_table.measure("tiny", variants, CPU, table, 4, 2)
    rows = (tmp_path / "new" / "table.md").read_text().splitlines()
    assert rows[2].startswith("| subject | variant")
    assert any("eager fp16" in row and "not run: ConfigError: float16" in row for row in rows)
    assert sum("| 1.0000 |" in row or "| 0.9" in row for row in rows) == 2
