"""What every memory method and policy promises, on all there are; a new file in memory/ is picked up."""

import gc
import os

import numpy as np
import psutil
import pytest
import torch
from tiny_sam import clip, picture, randomise, tiny_model

from samvideo.errors import ConfigError
from samvideo.heads.masks import TwoWayTransformer
from samvideo.memory.bank import MemoryBank
from samvideo.memory.base import MemoryEntry, MemoryPolicy
from samvideo.memory.fifo import FifoPolicy
from samvideo.models import VideoModel, resolve_policy
from samvideo.registry import MEMORY_METHODS, MEMORY_POLICIES
from samvideo.specs import SPECS
from samvideo.tensors import MemoryTokens
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.sam import SamTracker
from samvideo.types import Box, Frame, Mask, Points, Prompt

METHODS, POLICIES = list(MEMORY_METHODS.all()), list(MEMORY_POLICIES.all())
UNMERGEABLE = {"affinity", "affinity-ridge", "ridge"}
BOX = Box(object_id=1, xyxy=(10, 20, 34, 44))
CLICK = Points(object_id=2, xy=[(40.0, 30.0)])
DISC = Mask(object_id=3, mask=np.hypot(*(np.mgrid[:64, :64] - 30)) < 12)


def test_the_published_ones_are_there() -> None:
    assert {spec.memory for spec in SPECS.values()} <= set(METHODS)
    assert {spec.policy for spec in SPECS.values()} <= set(POLICIES)


def model(memory: str, policy: str | MemoryPolicy = "fifo", size: int = 64) -> VideoModel:
    """A tiny model whose decoder, which is not under test here, is as small as it can be."""
    tiny = tiny_model(memory, policy, size)
    tiny.decoder.transformer = TwoWayTransformer(256, hidden=16, depth=1).eval()
    return randomise(tiny)


def tracker(memory: str, policy: str | MemoryPolicy = "fifo", size: int = 64) -> SamTracker:
    return SamTracker(TorchRuntime(model(memory, policy, size)), logits=True)


def near(got: np.ndarray, want: np.ndarray, tolerance: float = 1e-4) -> bool:
    return float(np.linalg.norm(got - want)) <= tolerance * float(np.linalg.norm(want))


PAIRS = [
    pytest.param(memory, policy, marks=[pytest.mark.long] * (memory != "plain" and policy != "fifo"))
    for policy in POLICIES
    for memory in METHODS  # every method and every policy; all other pairs take long
]


@pytest.mark.parametrize(("memory", "policy"), PAIRS)
def test_batched_objects_equal_single_ones(memory: str, policy: str) -> None:
    """Objects do not influence each other, on a frame or through memory, unless a policy declares that they do."""
    prompts: list[Prompt] = [BOX, CLICK, DISC]
    if policy == "pruning-published":
        prompts = [BOX]  # chooses for all objects together, as published
    if resolve_policy(policy).merges_tokens and memory in UNMERGEABLE:
        with pytest.raises(ConfigError, match="cannot be merged: take policy 'diverse', or memory 'plain'"):
            model(memory, policy)
        return
    # at 256 pixels: on smaller maps a single rounding flip in the bfloat16 memory exceeds the tolerance
    shared = model(memory, policy, 256)
    together = SamTracker(TorchRuntime(shared), logits=True)
    expected = [together.step(f, prompts if f.index == 0 else ()) for f in clip(10)]
    for row, prompt in enumerate(prompts):
        alone = SamTracker(TorchRuntime(shared), logits=True)
        for frame, result in zip(clip(10), expected, strict=True):
            assert near(alone.step(frame, [prompt] if frame.index == 0 else ()).logits[0], result.logits[row])


@pytest.mark.parametrize("memory", METHODS)
def test_memory_matters(memory: str) -> None:
    """Earlier frames change the current prediction."""
    one, other = tracker(memory), tracker(memory)
    frames = clip(3)
    one.step(frames[0], [BOX])
    other.step(frames[0], [Box(object_id=1, xyxy=(30, 5, 60, 25))])
    assert not near(one.step(frames[1]).logits, other.step(frames[1]).logits, 1e-3)


@pytest.mark.parametrize("memory", METHODS)
def test_objects_come_and_go(memory: str) -> None:
    """Objects of different ages, forgotten and added again, are each tracked as if they were alone."""
    shared = model(memory, size=256)
    t, alone = SamTracker(TorchRuntime(shared), logits=True), SamTracker(TorchRuntime(shared), logits=True)
    for frame in clip(9):
        if frame.index == 5:
            t.forget(1)
        got = t.step(frame, {0: [BOX], 2: [CLICK], 6: [BOX]}.get(frame.index, []))
        if frame.index >= 2:
            want = alone.step(frame, [CLICK] if frame.index == 2 else [])
            assert near(got.logits[got.object_ids.index(2)], want.logits[0])
    assert got.object_ids == (1, 2)


@pytest.mark.parametrize("memory", METHODS)
@pytest.mark.parametrize(
    "policy", ["fifo", "pruning", "sam2long", FifoPolicy(frames=3, prompted=2, pointers=4)], ids=str
)
def test_memory_of_fixed_capacity_equals_the_growing_form(memory: str, policy: str | MemoryPolicy) -> None:
    """Objects of different ages in one batch, corrections included: padding changes nothing."""
    shared = model(memory, policy)
    growing, static = (SamTracker(TorchRuntime(shared, static_shapes=s), logits=True) for s in (False, True))
    for frame in clip(12):
        prompts = {0: [BOX], 3: [CLICK], 6: [Points(object_id=1, xy=[(22, 32)])], 9: [DISC]}.get(frame.index, [])
        expected, found = growing.step(frame, prompts), static.step(frame, prompts)
        assert near(found.logits, expected.logits, 1e-3), "rounding of stored memory included"
        memories = [tracked.best.bank.recall(frame.index + 1) for tracked in growing.objects.values()]
        with torch.inference_mode():
            features = shared.encode(shared.preprocess(frame.rgb))
            padded = shared.attend_to_memory(features, memories, shared.policy.capacity)
            alone = torch.cat([shared.attend_to_memory(features, [selected]) for selected in memories])
        assert near(padded.numpy(), alone.numpy(), 1e-5)


@pytest.mark.parametrize("memory", METHODS)
def test_nothing_leaks_into_the_next_video(memory: str) -> None:
    t, fresh = tracker(memory), tracker(memory)
    for frame in clip(4):
        t.step(frame, [BOX, DISC] if frame.index == 0 else [])
    t.reset()
    for frame in clip(3):
        prompts = [CLICK] if frame.index == 0 else []
        assert np.array_equal(t.step(frame, prompts).logits, fresh.step(frame, prompts).logits)


@pytest.mark.parametrize("memory", METHODS)
def test_rectangular_input(memory: str) -> None:
    model = tiny_model(memory, size=(512, 256))
    t = SamTracker(TorchRuntime(model))
    for frame in clip(4, (90, 40)):
        result = t.step(frame, [Box(object_id=1, xyxy=(10, 5, 40, 30))] if frame.index == 0 else [])
    assert result.masks.shape == (1, 40, 90)


def entry(index: int, prompted: bool = False, seed: int | None = None) -> MemoryEntry:
    generator = torch.Generator().manual_seed(index if seed is None else seed)
    features = torch.randn(1, 4, 64, generator=generator).bfloat16()
    tokens = MemoryTokens(features, torch.zeros(1, 4, 64), 0, (2, 2))
    return MemoryEntry(index, prompted, tokens, torch.ones(1, 256), presence=1.0)


@pytest.mark.parametrize("name", POLICIES)
def test_banks_are_bounded(name: str) -> None:
    """2,000 frames, every tenth prompted: the bank stops growing, the first prompt stays, tokens expire first."""
    bank = MemoryBank(resolve_policy(name))
    sizes = []
    for index in range(2000):
        bank.insert(entry(index, prompted=index % 10 == 0))
        sizes.append((len(bank.entries), sum(e.tokens is not None for e in bank.entries)))
    assert max(sizes[1000:]) <= max(sizes[:1000])
    prompted = [e for e in bank.entries if e.prompted]
    assert prompted[0].index == 0
    assert [e.index for e in prompted[1:]] == list(range(1930, 2000, 10))
    assert all(e.tokens is not None for e in prompted)
    assert any(e.tokens is None for e in bank.entries), "pointers outlive tokens"


def tensors(value: object, seen: set[int]) -> int:
    """Bytes of all tensor storages reachable from a tracker's state."""
    if isinstance(value, torch.Tensor):
        storage = value.untyped_storage()
        if storage.data_ptr() in seen:
            return 0
        seen.add(storage.data_ptr())
        return storage.nbytes()
    if isinstance(value, dict):
        return sum(tensors(v, seen) for v in value.values())
    if isinstance(value, list | tuple):
        return sum(tensors(v, seen) for v in value)
    return tensors(vars(value), seen) if hasattr(value, "__dict__") else 0


@pytest.mark.parametrize("memory", METHODS)
def test_state_stays_constant(memory: str) -> None:
    """With a correction on every fifth frame the state grows until the bank is full, then never again."""
    t = tracker(memory)
    sizes = []
    for index in range(130):
        prompts: list[Prompt] = [BOX] if index == 0 else []
        if index % 5 == 2:
            prompts = [Points(object_id=1, xy=[(20 + index % 7, 30)])]
        t.step(Frame(index, index / 25, picture(index % 50)), prompts)
        sizes.append(tensors(t._state, set()))
    assert sizes[0] < sizes[20] < sizes[40]
    assert sizes[80:105] == sizes[105:130]


@pytest.mark.long
@pytest.mark.parametrize("memory", METHODS)
def test_state_stays_constant_over_2000_frames(memory: str) -> None:
    """Bytes of state are those of frame 200, resident memory within allocator noise; corrections included."""
    t = tracker(memory)
    bytes_at, resident_at = {}, {}
    for index in range(2001):
        prompts: list[Prompt] = [BOX] if index == 0 else []
        if index % 20 == 10:
            prompts = [Points(object_id=1, xy=[(20 + index % 7, 30)])]
        t.step(Frame(index, index / 25, picture(index % 50)), prompts)
        if index in (200, 2000):
            gc.collect()
            bytes_at[index] = tensors(t._state, set())
            resident_at[index] = psutil.Process(os.getpid()).memory_info().rss
    assert bytes_at[2000] == bytes_at[200]
    assert resident_at[2000] - resident_at[200] < 24e6
