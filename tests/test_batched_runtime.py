"""Stages that are computed for frames of several videos at once give what they give for each alone."""

from collections.abc import Sequence
from typing import Any

import pytest
from tiny_sam import clip, tiny_model

from samvideo import compiled
from samvideo.compiled import CompiledRuntime
from samvideo.runtime import BatchedRuntime, SelectedMemory
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.sam import SamTracker
from samvideo.types import Box, Frame


def close(one: Any, other: Any, share: float = 1e-4) -> bool:
    return bool((one.float() - other.float()).norm() <= share * other.float().norm())


@pytest.mark.parametrize(
    ("memory", "kind"),
    [
        *((memory, "torch") for memory in ("plain", "pooled", "perceiver", "affinity-ridge")),
        ("pooled", "static"),
        ("plain", "compiled"),
    ],
)
def test_stages_of_several_frames_are_those_of_each(
    memory: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled.torch, "compile", lambda function, **_: function)
    monkeypatch.setattr(compiled, "check_compiler", lambda device: None)
    model = tiny_model(memory)
    made = CompiledRuntime(model) if kind == "compiled" else TorchRuntime(model, static_shapes=kind == "static")
    runtime: Any = made
    assert isinstance(runtime, BatchedRuntime)
    rgbs = [frame.rgb for frame in clip(3)]
    frames = runtime.encode_batch(rgbs)
    separate = [runtime.encode(rgb) for rgb in rgbs]
    assert all(close(one.maps.coarse, other.maps.coarse) for one, other in zip(frames, separate, strict=True))
    trackers, memories, counts = [], [], (1, 3, 2)
    for rgb, count in zip(rgbs, counts, strict=True):
        tracker = SamTracker(runtime)
        boxes = [Box((5 + 9 * k, 8, 30 + 9 * k, 40), object_id=k + 1) for k in range(count)]
        tracker.step(Frame(0, 0.0, rgb), boxes)
        trackers.append(tracker)
        memories.append([tracked.best.bank.recall(1) for tracked in tracker.objects.values()])
    check_track(runtime, separate, memories)
    check_track(runtime, separate, [[SelectedMemory()] * count for count in counts])
    predictions = [[o.best.prediction for o in tracker.objects.values()] for tracker in trackers]
    binarise = [[k % 2 == 0 for k in range(count)] for count in counts]
    found = runtime.remember_batch(separate, predictions, binarise)
    expected = map(runtime.remember, separate, predictions, binarise)
    for one, other in zip(found, expected, strict=True):
        pairs = list(zip(one, other, strict=True))
        assert all(close(a.features, b.features, 1e-3) for a, b in pairs)  # some are bfloat16
        assert all(close(a.position, b.position) and a.grid == b.grid for a, b in pairs)


def check_track(runtime: Any, frames: Sequence[Any], memories: Sequence[Sequence[SelectedMemory]]) -> None:
    found, expected = runtime.track_batch(frames, memories), list(map(runtime.track, frames, memories))
    for one, other in zip(found, expected, strict=True):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert close(a._logits, b._logits)
            assert (a.ambiguous, a.batch.input_wh) == (b.ambiguous, b.batch.input_wh)
    assert not close(found[0][0]._logits, found[1][0]._logits)
