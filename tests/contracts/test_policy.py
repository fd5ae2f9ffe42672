"""What every memory policy promises, on all there are; a new file in memory/ is picked up.

Batches, banks and recall of each with every memory method are in test_memory.py.
"""

import re

import numpy as np
import pytest
import torch
from fake_runtime import FakeRuntime
from tiny_sam import clip, randomise, tiny_model

import samvideo
from samvideo.errors import ConfigError
from samvideo.heads.masks import TwoWayTransformer
from samvideo.models import resolve_policy
from samvideo.policies import policy_options
from samvideo.registry import MEMORY_METHODS, MEMORY_POLICIES
from samvideo.testing import check_policy
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.sam import SamTracker
from samvideo.types import Box, Frame, Mask, Points, Prompt

METHODS, POLICIES = list(MEMORY_METHODS.all()), list(MEMORY_POLICIES.all())
DISC = Mask(object_id=3, mask=np.hypot(*(np.mgrid[:64, :64] - 30)) < 12)
# Three objects of different ages, the first of which is corrected: prompts by step.
PROMPTS: dict[int, list[Prompt]] = {
    0: [Box(object_id=1, xyxy=(10, 20, 34, 44))],
    2: [Points(object_id=2, xy=[(40.0, 30.0)])],
    3: [DISC],
    6: [Points(object_id=1, xy=[(22.0, 32.0)])],
}
BATCHED = {"pruning-published"}  # sums in bfloat16, as published, in which a batch may differ from a single object


def fits(memory: str, policy: str) -> bool:
    """Whether parts go together; if not, the error names both and a remedy."""
    try:
        with torch.device("meta"):
            samvideo.build("vit-ti", memory=memory, policy=policy, input_size=256)
    except ConfigError as error:
        return not re.search(f"{policy!r}.*{memory!r}.*: take ", str(error))
    return True


@pytest.mark.parametrize("policy", POLICIES)
def test_every_memory_method_takes_it_or_says_why(policy: str) -> None:
    assert fits("plain", policy), "SAM 2's"
    assert sum(fits(memory, policy) for memory in METHODS) >= 3


def covering(policy: str) -> str:
    """A memory method that goes with a policy; all take turns."""
    place = POLICIES.index(policy) % len(METHODS)
    return next(memory for memory in METHODS[place:] + METHODS[:place] if fits(memory, policy))


CLASSES = [type(config) for config in MEMORY_POLICIES.all().values()]
ONCE = [
    pytest.param(policy, marks=[pytest.mark.long] * (CLASSES[place] in CLASSES[:place]))
    for place, policy in enumerate(POLICIES)  # those that differ from another by their options only take long
]


@pytest.mark.parametrize("policy", ONCE)
def test_objects_of_different_age_equal_single_ones(policy: str) -> None:
    """Forwards, and backwards in the same tracker."""
    model = tiny_model(covering(policy), policy, 256)
    model.decoder.transformer = TwoWayTransformer(256, hidden=16, depth=1).eval()
    tracker = SamTracker(TorchRuntime(randomise(model)), logits=True)
    for frames, numbers in ((clip(9), (1, 3)), (clip(9)[::-1], (2,))):
        tracker.reset()
        together = [tracker.step(frame, PROMPTS.get(step, ())) for step, frame in enumerate(frames)]
        assert [len(result.object_ids) for result in together] == [1] * 2 + [2] + [3] * 6
        assert np.isfinite(together[-1].logits).all()
        for number in numbers if policy not in BATCHED else ():
            tracker.reset()
            for step, (frame, result) in enumerate(zip(frames, together, strict=True)):
                alone = tracker.step(frame, [p for p in PROMPTS.get(step, ()) if p.object_id == number])
                if number in result.object_ids:
                    want = result.logits[result.object_ids.index(number)]
                    assert np.linalg.norm(alone.logits[0] - want) <= 1e-4 * np.linalg.norm(want)


def scene(index: int) -> Frame:
    """A red disc that leaves every hundred frames for twenty, and a second one, nearly as red."""
    picture = np.full((24, 24, 3), 90, np.uint8)
    y, x = np.mgrid[:24, :24]
    picture[np.hypot(x - 8 + index % 5, y - 17) < 4] = (205, 25, 20)
    if index % 100 < 80:
        picture[np.hypot(x - 7 - index % 10, y - 6) < 4] = (200, 20, 20)
    return Frame(index, index / 25, picture)


def run(tracker: SamTracker, first: int, count: int) -> list[np.ndarray]:
    """Masks of two objects, the first of which is corrected now and then."""
    masks = []
    for index in range(first, first + count):
        prompts: list[Prompt] = [Points(object_id=1, xy=[(7.0 + index % 10, 6.0)])] if index % 50 == 0 else []
        if index == 5:
            prompts = [Points(object_id=2, xy=[(8.0 - index % 5, 17.0)])]
        masks.append(tracker.step(scene(index), prompts).masks)
    return masks


def saved(tracker: SamTracker) -> bytes:
    """The state; empty for a tracker that cannot save it and says so."""
    try:
        return tracker.state()
    except ConfigError as error:
        if "cannot save its state" in str(error):
            return b""
        raise


def sizes(tracker: SamTracker) -> tuple[int, int]:
    """Entries and tokens in memory."""
    entries = [e for tracked in tracker.objects.values() for h in tracked.hypotheses for e in h.bank.entries]
    return len(entries), sum(entry.tokens is not None for entry in entries)


@pytest.mark.parametrize("policy", POLICIES)
def test_2000_frames_in_bounded_memory(policy: str) -> None:
    tracker = SamTracker(FakeRuntime(resolve_policy(policy), (24, 24)))
    seen, states = [], []
    for first in range(0, 2000, 20):
        run(tracker, first, 20)
        seen.append(sizes(tracker))
        states.append(len(saved(tracker)))
    entries, tokens = zip(*seen, strict=True)
    for values in (entries, tokens):
        assert max(values[50:]) <= max(values[:50])
    assert max(states[50:]) <= 1.05 * max(states[:50]), "but for the digits of its numbers"


@pytest.mark.parametrize("policy", POLICIES)
def test_its_state_is_in_the_tracker_alone(policy: str) -> None:
    """It goes on from a saved state as if nothing had happened, and nothing is left after a reset."""
    shared = resolve_policy(policy)
    tracker, other = (SamTracker(FakeRuntime(shared, (24, 24))) for _ in range(2))
    expected = run(tracker, 0, 90)
    run(other, 0, 60)
    if state := saved(other):
        run(other, 100, 30)
        other.restore(state)
    assert all(np.array_equal(a, b) for a, b in zip(run(other, 60, 30), expected[60:], strict=True))
    tracker.reset()
    assert saved(tracker) == saved(SamTracker(FakeRuntime(shared, (24, 24))))
    assert all(np.array_equal(a, b) for a, b in zip(run(tracker, 0, 90), expected, strict=True))
    assert shared == resolve_policy(policy)


@pytest.mark.parametrize("policy", POLICIES)
def test_contract(policy: str) -> None:
    assert policy_options(policy)
    check_policy(policy)
