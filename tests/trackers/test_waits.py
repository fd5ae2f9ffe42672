"""What would make a GPU wait for the host, seen on a CPU: operations that hand a tensor's value to Python."""

from typing import Any

import torch
from tiny_sam import clip, tiny_model
from torch.utils._python_dispatch import TorchDispatchMode

from samvideo.models import VideoModel
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.sam import SamTracker
from samvideo.types import Box

WAITING = {
    f"aten::{name}"
    for name in (
        "_local_scalar_dense",
        "item",
        "is_nonzero",
        "nonzero",
        "argwhere",
        "masked_select",
        "equal",
        "unique",
    )
}


class Names(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.add(func.name().split(".")[0])
        return func(*args, **(kwargs or {}))


def stepped(model: VideoModel) -> set[str]:
    tracker, names = SamTracker(TorchRuntime(model)), Names()
    first, *others = clip(4)
    tracker.step(first, [Box(object_id=i, xyxy=(10, 20, 34, 44)) for i in (1, 2)])
    for frame in others:
        with names:
            tracker.step(frame)
    return names.seen


def test_nothing_in_a_step_waits_for_a_value() -> None:
    for memory in ("plain", "perceiver"):
        seen = stepped(tiny_model(memory))
        assert "aten::linear" in seen or "aten::addmm" in seen
        assert not seen & WAITING


def test_the_check_sees_what_waits() -> None:
    with Names() as names:
        float(torch.ones(1).sum())
    assert names.seen & WAITING
