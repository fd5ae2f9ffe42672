"""SamTracker: prompts, corrections, batching, bounded state."""

import numpy as np
import pytest
import torch
from tiny_sam import clip, tiny_tracker

from samvideo.errors import ConfigError, PromptError, VideoError
from samvideo.memory.fifo import FifoPolicy
from samvideo.object_prompts import group_prompts, input_points
from samvideo.torch_runtime import _has_bfloat16, make_exclusive, resize_mask, resolve_device
from samvideo.trackers.base import Tracker
from samvideo.trackers.sam import SamTracker
from samvideo.types import Box, Mask, Points

BOX = Box(object_id=1, xyxy=(10, 20, 34, 44))
CLICK = Points(object_id=2, xy=[(40.0, 30.0)])


def tracker(policy: object = "fifo", **options: object) -> SamTracker:
    return tiny_tracker(policy=policy, **{"logits": True, **options})


def square(x: int, y: int, side: int, size: int = 64) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[y : y + side, x : x + side] = True
    return mask


def entries(t: SamTracker, object_id: int) -> list:
    return t.objects[object_id].best.bank.entries


def test_is_a_tracker() -> None:
    assert isinstance(tracker(), Tracker)


def test_nothing_to_track_gives_no_rows() -> None:
    result = tracker().step(clip(1)[0])
    assert result.object_ids == ()
    assert result.masks.shape == result.logits.shape == (0, 64, 64)


def test_results_have_the_frames_size_and_the_users_ids() -> None:
    t = tracker()
    frames = clip(3, (80, 48))
    result = t.step(frames[0], [Box(object_id=7, xyxy=(5, 5, 30, 30)), Points(object_id=3, xy=[(60, 20)])])
    assert result.object_ids == (3, 7)
    assert result.masks.shape == result.logits.shape == (2, 48, 80)
    assert (result.logits > 0).sum() == result.masks.sum()
    assert ((result.scores >= 0) & (result.scores <= 1)).all()
    assert result.present.all()
    assert t.step(frames[1]).index == 1


def test_logits_only_on_request() -> None:
    assert tracker(logits=False).step(clip(1)[0], [BOX]).logits is None


def test_a_given_mask_is_the_answer() -> None:
    mask = square(20, 12, 3)  # thinner than a cell of the low-resolution map
    result = tracker().step(clip(1)[0], [Mask(object_id=1, mask=mask)])
    assert (result.mask(1) == mask).all()
    assert result.present[0]


def test_an_empty_mask_means_absent() -> None:
    t = tracker()
    result = t.step(clip(1)[0], [Mask(object_id=1, mask=np.zeros((64, 64)))])
    assert not result.present[0]
    assert not result.masks.any()


def test_objects_of_different_ages() -> None:
    """A later object, whose memory has another shape, equals itself tracked alone; so does the earlier one."""
    frames, together, alone = clip(8), tracker(), tracker()
    for frame in frames:
        prompts = {0: [BOX], 3: [CLICK]}.get(frame.index, [])
        both = together.step(frame, prompts)
        if frame.index >= 3:
            own = alone.step(frame, [CLICK] if frame.index == 3 else [])
            assert np.allclose(both.logits[1], own.logits[0], atol=1e-3 * np.abs(own.logits).max())


def test_a_prompt_on_one_object_never_changes_another() -> None:
    frames, plain, corrected = clip(7), tracker(), tracker()
    for frame in frames:
        start = [BOX, CLICK] if frame.index == 0 else []
        extra = [Points(object_id=2, xy=[(50, 50)])] if frame.index == 3 else []
        want, got = plain.step(frame, start), corrected.step(frame, start + extra)
        assert np.allclose(want.logits[0], got.logits[0], atol=1e-3 * np.abs(want.logits[0]).max())
    assert not np.allclose(want.logits[1], got.logits[1], atol=1e-2)


def test_forget_and_add_again() -> None:
    t, fresh = tracker(), tracker()
    frames = clip(8)
    for frame in frames[:4]:
        t.step(frame, [BOX, CLICK] if frame.index == 0 else [])
    t.forget(1)
    assert t.step(frames[4]).object_ids == (2,)
    again, first = t.step(frames[5], [BOX]), fresh.step(frames[5], [BOX])
    assert again.object_ids == (1, 2)
    assert np.allclose(again.logits[0], first.logits[0], atol=1e-3), "nothing is left of the object forgotten"
    with pytest.raises(KeyError, match="object 9 is not tracked"):
        t.forget(9)


def test_reset_leaves_nothing() -> None:
    t, fresh = tracker(), tracker()
    for frame in clip(5, (80, 48)):
        t.step(frame, [BOX] if frame.index == 0 else [])
    t.reset()
    for frame in clip(4):
        prompts = [CLICK] if frame.index == 0 else []
        assert np.array_equal(t.step(frame, prompts).logits, fresh.step(frame, prompts).logits)


def test_corrections_pin() -> None:
    t = tracker()
    for frame in clip(12):
        t.step(
            frame, [BOX] if frame.index == 0 else [Points(object_id=1, xy=[(30, 30)])] if frame.index == 8 else []
        )
    assert [e.index for e in entries(t, 1) if e.prompted] == [0, 8]
    assert [e.index for e in entries(t, 1) if not e.prompted] == [1, 9, 10, 11], "memories near it are cleared"


def test_corrections_as_published() -> None:
    t = tracker(corrections="published")
    for frame in clip(12):
        t.step(
            frame, [BOX] if frame.index == 0 else [Points(object_id=1, xy=[(30, 30)])] if frame.index == 8 else []
        )
    assert [e.index for e in entries(t, 1) if e.prompted] == [0]
    assert [e.index for e in entries(t, 1)] == list(range(12))


def test_same_frame_again_corrects_it() -> None:
    """More clicks on a frame go into the earlier answer; objects without clicks stay as they are."""
    t, frames = tracker(), clip(6)
    first = t.step(frames[0], [BOX, CLICK])
    second = t.step(frames[0], [Points(object_id=2, xy=[(44, 20)], labels=[0])])
    assert np.array_equal(first.logits[0], second.logits[0])
    assert not np.array_equal(first.logits[1], second.logits[1])
    assert [len(entries(t, i)) for i in (1, 2)] == [1, 1]
    third = t.step(frames[0])
    assert np.array_equal(third.logits, second.logits), "showing a frame again changes nothing"
    t.step(frames[1])
    assert [e.index for e in entries(t, 1)] == [0, 1]


def test_source_indices_do_not_matter() -> None:
    """Every third frame, or backwards: memory counts frames shown."""
    straight, strided = tracker(), tracker()
    for position, frame in enumerate(clip(6)):
        prompts = [BOX] if position == 0 else []
        renumbered = type(frame)(30 - 3 * position, frame.seconds, frame.rgb)
        assert np.array_equal(straight.step(frame, prompts).logits, strided.step(renumbered, prompts).logits)


def test_state_and_restore() -> None:
    t, frames = tracker(), clip(8)
    for frame in frames[:4]:
        t.step(frame, [BOX] if frame.index == 0 else [])
    state = t.state()
    first = [t.step(f).logits for f in frames[4:]]
    t.restore(state)
    assert all(np.array_equal(a, t.step(f).logits) for a, f in zip(first, frames[4:], strict=True))


def test_refused_prompts_change_nothing() -> None:
    t, fresh = tracker(), tracker()
    frames = clip(3)
    for x in (t, fresh):
        x.step(frames[0], [BOX])
    with pytest.raises(PromptError):
        t.step(frames[1], [CLICK, Box(object_id=4, xyxy=(100, 100, 120, 120))])
    assert np.array_equal(t.step(frames[1]).logits, fresh.step(frames[1]).logits)
    with pytest.raises(VideoError, match="one size"):
        t.step(clip(3, (32, 32))[2])
    assert np.array_equal(t.step(frames[2]).logits, fresh.step(frames[2]).logits)


def test_non_overlap_gives_each_pixel_to_one_object() -> None:
    t = tracker(non_overlap=True)
    for frame in clip(4):
        prompts = [BOX, Box(object_id=2, xyxy=(14, 20, 40, 44))] if frame.index == 0 else []
        assert t.step(frame, prompts).masks.sum(0).max() <= 1
    logits = torch.tensor([[[3.0, -2.0]], [[1.0, -1.0]]])
    assert make_exclusive(logits).tolist() == [[[3.0, -10.0]], [[-10.0, -1.0]]]


def test_memory_is_stored_as_bfloat16() -> None:
    t = tracker()
    t.step(clip(1)[0], [BOX])
    assert entries(t, 1)[0].tokens.features.dtype == torch.bfloat16


def test_entries_own_their_storage() -> None:
    """A row of a batch must not keep the whole batch alive once the others are forgotten."""
    t = tracker()
    for frame in clip(3):
        t.step(frame, [BOX, CLICK] if frame.index == 0 else [])
    tokens = entries(t, 1)[-1].tokens.features
    assert tokens.untyped_storage().nbytes() == tokens.nbytes


def test_prompted_entries_are_bounded() -> None:
    t = tracker(policy=FifoPolicy(prompted=3))
    for frame in clip(20):
        t.step(frame, [Points(object_id=1, xy=[(20 + frame.index, 30)])] if frame.index % 2 == 0 else [])
    assert [e.index for e in entries(t, 1) if e.prompted] == [0, 16, 18]


def test_bfloat16_on_the_cpu() -> None:
    frames, exact = clip(4), tracker()
    half = tracker(dtype="bf16")
    for frame in frames:
        want, got = (
            exact.step(frame, [BOX] if not frame.index else []),
            half.step(frame, [BOX] if not frame.index else []),
        )
        assert got.logits.dtype == np.float32
        assert np.linalg.norm(want.logits - got.logits) < 0.2 * np.linalg.norm(want.logits)


def test_devices_and_dtypes() -> None:
    has_it = _has_bfloat16(torch.device("cpu"))
    assert resolve_device("cpu", "auto") == (torch.device("cpu"), torch.bfloat16 if has_it else torch.float32)
    with pytest.raises(ConfigError, match="1000 times slower"):
        tracker(dtype="fp16")
    with pytest.raises(ConfigError, match="no device is called 'gpu'"):
        resolve_device("gpu", "fp32")
    with pytest.raises(ConfigError, match="no dtype is called 'int8'"):
        resolve_device("cpu", "int8")
    with pytest.raises(ConfigError, match="corrections must be"):
        tracker(corrections="never")


def test_prompts_are_scaled_to_the_input() -> None:
    both = [Box(object_id=1, xyxy=(10, 5, 20, 15)), Points(object_id=1, xy=[(12, 6)], labels=[0])]
    (prompt,) = group_prompts(both, (), (100, 50))
    xy, labels = input_points(prompt, (100, 50), (64, 32))
    assert labels.tolist() == [2, 3, 0]
    assert np.allclose(xy, [(6.4, 3.2), (12.8, 9.6), (7.68, 3.84)])


def test_masks_are_resized_with_antialiasing() -> None:
    mask = np.zeros((128, 256), bool)
    mask[:, :100] = True
    resized = resize_mask(mask, (64, 64))
    assert resized.shape == (1, 1, 64, 64)
    assert resized[0, 0, 5].sum() == 25
