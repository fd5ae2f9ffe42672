"""Any encoder with a memory: what `samvideo.build` promises, on all there are."""

import numpy as np
import pytest
import torch
from tiny_sam import clip

import samvideo
from samvideo import models
from samvideo.errors import ConfigError
from samvideo.models import STRIDE, resolve_policy
from samvideo.registry import MEMORY_METHODS, MEMORY_POLICIES
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.sam import SamTracker

ENCODERS, METHODS = models.encoders(), list(MEMORY_METHODS.all())
POLICIES = list(MEMORY_POLICIES.all())
DENSE = [name for name in ENCODERS if name.endswith("-dense")]
QUICK = {"dilated-vit-t", "resnet-18", "sam-vit-slim-77", "tinyvit-5m", "vit-ti-global"}


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_takes_a_memory(name: str) -> None:
    """Which one makes no difference: all attend from a map of one width and stride. Policies take turns."""
    policy = POLICIES[ENCODERS.index(name) % len(POLICIES)]
    with torch.device("meta"):
        if name in DENSE:
            with pytest.raises(ConfigError, match=f"map of stride 8: memory needs one of stride {STRIDE}"):
                samvideo.build(name)
        else:
            model = samvideo.build(name, memory="perceiver", policy=policy)
            assert (model.spec.encoder, model.spec.memory, model.encoder.stride) == (name, "perceiver", STRIDE)
            assert model.policy == resolve_policy(policy)


def tracker(name: str, memory: str, dtype: str) -> SamTracker:
    torch.manual_seed(0)
    model = samvideo.build(name, memory=memory, input_size=256)
    with torch.no_grad():
        model.get_parameter("decoder.pred_obj_score_head.layers.2.bias").fill_(20.0)  # there is a mask to remember
    return SamTracker(TorchRuntime(model, dtype=dtype), logits=True)


def marks(name: str, memory: str, dtype: str) -> list[pytest.MarkDecorator]:
    return [] if name in QUICK and (memory, dtype) == ("perceiver", "bf16") else [pytest.mark.long]


@pytest.mark.parametrize(
    ("name", "memory", "dtype"),
    [
        pytest.param(name, memory, dtype, marks=marks(name, memory, dtype))
        for name in ENCODERS
        if name not in (*DENSE, "sam-vit-h")  # which takes gigabytes
        for memory in METHODS
        for dtype in ("fp32", "bf16")
    ],
)
def test_every_encoder_tracks(name: str, memory: str, dtype: str) -> None:
    """Masks are finite, depend on what was prompted before, and go on the same from a saved state."""
    first, second, third = clip(3)
    one, other = tracker(name, memory, dtype), tracker(name, memory, dtype)
    one.step(first, [samvideo.Box(object_id=1, xyxy=(10, 20, 34, 44))])
    other.step(first, [samvideo.Box(object_id=1, xyxy=(30, 5, 60, 25))])
    logits = one.step(second).logits
    assert logits is not None
    assert np.isfinite(logits).all()
    assert not np.array_equal(logits, other.step(second).logits)
    other.restore(one.state())
    assert np.array_equal(one.step(third).logits, other.step(third).logits)
