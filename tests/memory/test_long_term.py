"""Diverse and consolidated memory: which frames enter it, what it is bounded by, and what is recalled of it."""

import numpy as np
import pytest
import torch
from ideal_decoder import IdealRuntime, Tokens, numbered
from policy_cases import SIZE, drift
from tiny_sam import clip, tiny_model

from samvideo.errors import ConfigError
from samvideo.memory.bank import MemoryBank
from samvideo.memory.base import MemoryEntry
from samvideo.memory.consolidated import ConsolidatedPolicy
from samvideo.memory.diverse import DiversePolicy
from samvideo.tensors import MemoryTokens
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.sam import SamTracker
from samvideo.types import Box, Frame, Mask, Points

POLICIES = [DiversePolicy(), ConsolidatedPolicy()]


def entry(
    index: int, angle: float, quality: float = 1.0, presence: float = 5.0, prompted: bool = False
) -> MemoryEntry:
    look = np.array([[np.cos(angle), np.sin(angle)]])
    return MemoryEntry(index, prompted, Tokens(look, np.zeros((1, 2)), np.ones(1)), (), quality, presence)


def filled(policy: DiversePolicy, *entries: MemoryEntry) -> MemoryBank:
    bank = MemoryBank(policy, [entry(0, 0, prompted=True)])
    for e in entries:
        bank.insert(e)
    return bank


def with_tokens(bank: MemoryBank) -> list[int]:
    return [e.index for e in bank.entries if e.tokens is not None]


def long_term(bank: MemoryBank, now: int) -> list[int]:
    """Frames that are recalled with the row of prompted ones, but the first."""
    index = {id(e.tokens): e.index for e in bank.entries}
    return [index[id(frame.tokens)] for frame in bank.recall(now).frames if frame.code_row == 6][1:]


def test_long_term_frames_take_the_places_of_recent_ones() -> None:
    bank = filled(DiversePolicy(), *(entry(i, 0.01 * i) for i in range(1, 7)))
    assert [f.code_row for f in bank.recall(7).frames] == [6, 5, 4, 3, 2, 1, 0]
    for index, rows in ((7, [6, 6, 4, 3, 2, 1, 0]), (8, [6, 6, 6, 3, 2, 1, 0]), (9, [6, 6, 6, 6, 2, 1, 0])):
        bank.insert(entry(index, 0.01 * index))
        assert [f.code_row for f in bank.recall(index + 1).frames] == rows
    assert len(bank.recall(10).pointers) == 10


@pytest.mark.parametrize("policy", POLICIES)
def test_long_term_memory_spans_a_long_video(policy: DiversePolicy) -> None:
    bank = filled(policy, *(entry(i, 0.001 * i) for i in range(1, 1000)))
    first, second, newest = long_term(bank, 1000)
    assert 300 < first < 400, "beside the prompted frame 0"
    assert 650 < second < 750
    assert newest > 980


def test_the_most_unlike_of_a_pool_enters() -> None:
    """Frames 1 to 3 come first; of 4 to 8, frame 6 is unlike them; it replaces frame 2, which is like frame 1."""
    angles = [0.0, 0.1, 0.1, 0.5, 0.1, 0.1, 0.9, 0.1, 0.1]
    bank = filled(DiversePolicy(), *(entry(i, angles[i] if i < 9 else 0.1) for i in range(1, 15)))
    assert long_term(bank, 15) == [1, 3, 6]


def test_frames_that_are_not_reliable_never_enter() -> None:
    good = [entry(i, 0.1) for i in range(1, 4)]
    doubtful = [entry(i, 1.0, quality=0.4) for i in range(4, 60)]
    absent = [entry(i, 1.0, presence=-1.0) for i in range(60, 120)]
    bank = filled(DiversePolicy(), *good, *doubtful, *absent)
    assert long_term(bank, 120) == [1, 2, 3], "still there after a long absence"
    assert with_tokens(bank) == [0, 1, 2, 3, *range(114, 120)]


def test_a_correction_clears_long_term_frames_near_it() -> None:
    bank = filled(DiversePolicy(), *(entry(i, 0.01 * i) for i in range(1, 30)))
    bank.drop_near(30, 30)
    bank.insert(entry(30, 0.0, prompted=True))
    assert bank.recall(31).shape == (2, 2)


def test_a_merged_frame_stands_for_its_pool() -> None:
    angles = {**{i: 0.01 * i for i in range(1, 4)}, 4: 0.5, 5: 0.52, 6: 0.6, 7: 0.52, 8: 0.5}
    entries = [entry(i, angles.get(i, 0.6)) for i in range(1, 15)]
    plain, merged = (filled(policy, *entries) for policy in POLICIES)
    assert long_term(plain, 15)[-1] == long_term(merged, 15)[-1] == 6
    look = next(e for e in merged.entries if e.index == 6).tokens.looks[0]
    assert 0.5 < np.arctan2(look[1], look[0]) < 0.56


def test_weights_of_a_merged_token() -> None:
    """Of three frames, two at one place alike: their mean, the third left out; as stored, and for every object."""
    values = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    frames = [MemoryTokens(v.expand(1, 4, 2).bfloat16(), torch.zeros(1, 4, 2), 0, (2, 2)) for v in values]
    merged = frames[0].potentiate(frames, 20.0)
    assert (merged.features.dtype, merged.features.shape, merged.grid) == (torch.bfloat16, (1, 4, 2), (2, 2))
    assert torch.allclose(merged.features.float(), torch.tensor([0.95, 0.05]), atol=0.01)
    assert torch.allclose(frames[0].potentiate(frames, 0.0).features.float(), values.mean(0), atol=0.01)


@pytest.mark.parametrize("options", [{"long_term": 0}, {"long_term": 6}, {"pool": 0}, {"frames": 3}])
def test_senseless_options_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="long_term must be"):
        DiversePolicy(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", POLICIES)
def test_bounded_over_2000_frames_with_absences_and_corrections(policy: DiversePolicy) -> None:
    """Two objects; a run that is restored from its state in between is the same."""
    course = drift(0, 2000)
    tracker, restored = (SamTracker(IdealRuntime(policy, course.scene)) for _ in range(2))
    sizes = []
    for index in range(2000):
        truth = course.scene(index).visible
        prompts = [Mask(truth[0], object_id=1)] if index % 300 == 0 else []
        prompts += [Mask(truth[1], object_id=2)] if index == 5 else []
        frame = Frame(index, index / 25, numbered(index, SIZE))
        result = tracker.step(frame, prompts)
        if index == 1000:
            restored.restore(tracker.state())
        if 1000 < index < 1100:
            assert np.array_equal(restored.step(frame, prompts).masks, result.masks)
        sizes.append([sum(e.tokens is not None for e in o.best.bank.entries) for o in tracker.objects.values()])
    bound = policy.frames + policy.long_term + policy.pool - 1
    assert max(size for row in sizes for size in row) <= 8 + bound
    assert np.array_equal(result.masks, truth)


@pytest.mark.parametrize("memory", ["plain", "pooled", "perceiver"])
def test_networks_read_merged_frames(memory: str) -> None:
    """Masks depend on them, are the same with padded memory, and after a restoration in between."""
    model = tiny_model(memory, ConsolidatedPolicy(reliable_quality=0.0))
    growing, padded = (SamTracker(TorchRuntime(model, static_shapes=s), logits=True) for s in (False, True))
    restored, fifo = (SamTracker(TorchRuntime(tiny_model(memory, p)), logits=True) for p in (model.policy, "fifo"))
    prompts = [Box((10, 20, 34, 44), object_id=1), Points([(40, 30)], object_id=2)]
    for frame in clip(24):
        now = prompts if frame.index == 0 else [prompts[0]] if frame.index == 18 else []
        if frame.index == 23:
            restored.restore(growing.state())
        results = [tracker.step(frame, now).logits for tracker in (growing, padded, fifo)]
    assert np.array_equal(restored.step(frame).logits, results[0])
    assert np.allclose(results[0], results[1], atol=2e-3 * np.abs(results[0]).max())
    assert not np.allclose(results[0], results[2], atol=2e-3 * np.abs(results[0]).max())
