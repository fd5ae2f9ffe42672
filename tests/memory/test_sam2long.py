"""SAM2Long's decisions on what the published run found, without any network; and each rule by itself."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_sam import ClipSource, clip, tiny_model

from samvideo.errors import ConfigError
from samvideo.memory.bank import MemoryBank
from samvideo.memory.base import Choice, History, MemoryEntry
from samvideo.memory.sam2long import Sam2LongPolicy
from samvideo.runtime import Candidates
from samvideo.tensors import MemoryContext
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.direction import track_all_directions
from samvideo.trackers.sam import Hypothesis, SamTracker
from samvideo.types import Box, Points

FIXTURE = Path(__file__).parents[1] / "parity" / "fixtures" / "sam2.1-tiny--sam2long.npz"
BOX = Box(object_id=1, xyxy=(10, 20, 34, 44))


class Proposed:
    """Candidates with given quality and presence."""

    ambiguous = True

    def __init__(self, quality: object, presence: float) -> None:
        self.quality_n, self.presence = np.asarray(quality, np.float32), presence


class Tree:
    """The paths of one object that was prompted on frame 0; tokens and pointers are the frame's number."""

    def __init__(self, policy: Sam2LongPolicy | None = None) -> None:
        self.policy = policy or Sam2LongPolicy()
        self.banks = [MemoryBank(self.policy)]
        self.now = 0
        self.insert([MemoryEntry(0, True, 0, 0)])

    def insert(self, entries: list[MemoryEntry]) -> None:
        for bank, entry in zip(self.banks, entries, strict=True):
            bank.insert(entry)
        self.now += 1

    def step(self, proposed: list[Proposed]) -> list[Choice]:
        choices = list(self.policy.select(proposed, [bank.history(self.now) for bank in self.banks]))
        self.banks = [self.banks[choice.parent].branch(choice) for choice in choices]
        masks = [int(proposed[c.parent].quality_n.argmax()) if c.mask is None else c.mask for c in choices]
        self.insert(
            [
                MemoryEntry(self.now, False, self.now, self.now, float(p.quality_n[mask]), p.presence)
                for p, mask in ((proposed[c.parent], mask) for c, mask in zip(choices, masks, strict=True))
            ]
        )
        return choices


def started(policy: Sam2LongPolicy | None = None, frames: int = 1) -> Tree:
    """A tree whose paths are still the same."""
    tree = Tree(policy)
    tree.step([Proposed([0.5, 0.4, 0.3], 5)])
    for _ in range(frames - 1):
        tree.step([Proposed([0.5, 0.4, 0.3], 5)] * 3)
    return tree


def paths(choices: list[Choice]) -> list[tuple[int, int | None]]:
    return [(choice.parent, choice.mask) for choice in choices]


def test_every_decision_is_the_published_one() -> None:
    fixture, tree = dict(np.load(FIXTURE)), Tree()
    for index in range(1, 16):
        expected = {key.split("/")[-1]: fixture[key] for key in fixture if key.startswith(f"sam2long/{index}/1/")}
        for run, bank in enumerate(tree.banks):
            memory = bank.recall(index)
            assert [f.tokens for f in memory.frames] == expected["memory_frames"][run].tolist()
            assert [f.code_row for f in memory.frames] == expected["memory_rows"][run].tolist()
            assert [f.key_scale for f in memory.frames] == pytest.approx(expected["memory_scale"][run].tolist())
            assert [p.pointer for p in memory.pointers] == expected["pointer_frames"][run].tolist()
            assert [p.age for p in memory.pointers] == expected["pointer_ages"][run].tolist()
            scales = [p.key_scale for p in memory.pointers]
            assert scales == pytest.approx(expected["pointer_scale"][run].tolist(), rel=1e-3)
        runs = zip(expected["ious"], expected["object_scores"].tolist(), strict=True)
        choices = tree.step([Proposed(quality, presence) for quality, presence in runs])
        assert [c.state for c in choices] == pytest.approx(expected["path_score"].tolist(), abs=1e-6)
        if index > 1:
            assert paths(choices) == list(zip(expected["path_parent"], expected["path_mask"], strict=True))


def test_certain_frames_keep_the_best_whatever_they_look_like() -> None:
    """The best three of nine; of equal ones the first. One certain path is enough."""
    tree = started()
    proposed = [Proposed([0.9, 0.8, 0.1], 0.1), Proposed([0.9, 0.2, 0.85], 0.1), Proposed([0.3, 0.1, 0.2], -2.1)]
    assert paths(tree.step(proposed)) == [(0, 0), (1, 0), (1, 2)]


def test_uncertain_frames_keep_masks_of_different_quality() -> None:
    tree = started()
    proposed = [Proposed([0.904, 0.8, 0.1], 2), Proposed([0.896, 0.2, 0.85], -2), Proposed([0.3, 0.1, 0.2], 0)]
    assert paths(tree.step(proposed)) == [(0, 0), (1, 0), (1, 2)], "0.90, and -0.90 as the object is absent there"
    tree = started()
    proposed = [Proposed([0.904, 0.8, 0.1], 2), Proposed([0.896, 0.2, 0.85], 2), Proposed([0.3, 0.1, 0.2], 0)]
    assert paths(tree.step(proposed)) == [(0, 0), (1, 2), (0, 1)]


def test_too_few_different_masks_are_filled_with_the_best_of_other_paths() -> None:
    tree = started()
    proposed = [Proposed([0.7, 0.7, 0.7], 1), Proposed([0.7, 0.6, 0.7], 1), Proposed([0.6, 0.7, 0.6], 1)]
    assert paths(tree.step(proposed)) == [(0, 0), (1, 1), (2, 1)]
    tree = started()
    proposed = [Proposed([0.7, 0.7, 0.7], 1), *[Proposed([0.7] * 3, 1)] * 2]
    assert paths(tree.step(proposed)) == [(0, 0), (1, 0), (2, 0)]


def test_paths_are_ranked_by_what_they_have_gathered() -> None:
    tree = started(Sam2LongPolicy(uncertainty=10))
    tree.step([Proposed([0.9, 0.5, 0.1], 1)] * 3)
    assert paths(tree.step([Proposed([0.5] * 3, 20), Proposed([0.8] * 3, 20), Proposed([0.95] * 3, 20)])) == [
        (0, 0), (0, 1), (0, 2)
    ]  # fmt: skip


def test_only_good_frames_are_recalled_and_the_last_one() -> None:
    """Above the thresholds; ranks instead of ages, without a pointer of the oldest that is admitted."""
    tree = started(frames=2)
    for index in range(3, 30):
        quality, presence = (0.0625, 5.0) if index % 3 == 0 else (0.9, 0.0) if index % 3 == 1 else (0.9, 5.0)
        tree.step([Proposed([quality] * 3, presence)] * 3)
    tree.step([Proposed([0.0625] * 3, 5.0)] * 3)
    memory = tree.banks[0].recall(31)
    assert [f.tokens for f in memory.frames] == [0, 17, 20, 23, 26, 29, 30]
    assert [f.code_row for f in memory.frames] == [6, 5, 4, 3, 2, 1, 0]
    assert [p.pointer for p in memory.pointers] == [0, 30, 29, 26, 23, 20, 17, 14, 11, 8, 5, 2]
    assert [p.age for p in memory.pointers] == [31, *range(1, 12)]
    assert max(map(len, (bank.entries for bank in tree.banks))) <= 1 + 16


def test_pointers_reach_back_fifteen_admitted_frames_at_most() -> None:
    tree = started(frames=40)
    assert [p.pointer for p in tree.banks[0].recall(41).pointers] == [0, *range(40, 26, -1)]
    tree.step([Proposed([0.05] * 3, 5.0)] * 3)
    memory = tree.banks[0].recall(42)
    assert [p.pointer for p in memory.pointers] == [0, 41, *range(40, 26, -1)], "the last frame comes on top"
    assert memory.shape == (7, 16) <= tree.policy.capacity


def test_keys_are_scaled_in_the_order_of_object_scores() -> None:
    """The prompted frame counts as 10; a single frame is not scaled; a single pointer gets the lowest factor."""
    tree = Tree()
    first = tree.banks[0].recall(1)
    assert [s.key_scale for s in (*first.frames, *first.pointers)] == [1, 1]
    tree.step([Proposed([0.5] * 3, 12)])
    second = tree.banks[0].recall(2)
    assert [f.key_scale for f in second.frames] == pytest.approx([0.95, 1.05])
    assert [p.key_scale for p in second.pointers] == [0.94921875], "as published, in bfloat16"
    for presence in (3, 9):
        tree.step([Proposed([0.5] * 3, presence)] * 3)
    fourth = tree.banks[0].recall(4)
    assert [f.key_scale for f in fourth.frames] == pytest.approx([0.95 + 0.1 / 3 * i for i in (2, 3, 0, 1)])
    assert [p.key_scale for p in fourth.pointers] == pytest.approx([1.05, 1.0, 0.95])


def test_options() -> None:
    with pytest.raises(ConfigError, match="must be at least 1, not 0"):
        Sam2LongPolicy(paths=0)
    with pytest.raises(ConfigError, match="at most strongest_keys"):
        Sam2LongPolicy(weakest_keys=1.2)
    with pytest.raises(ConfigError, match="leave stride"):
        Sam2LongPolicy(stride=2)
    with pytest.raises(ConfigError, match="leave non_overlap or final out"):
        SamTracker(final().runtime, non_overlap=True)
    assert len(started(Sam2LongPolicy(paths=2)).banks) == 2
    assert started(Sam2LongPolicy(pointers=0), 9).banks[0].recall(10).shape == (7, 0)


@pytest.mark.parametrize("memory", ["plain", "pooled", "pooled-2", "perceiver"])
def test_factors_reach_the_keys_and_nothing_else(memory: str) -> None:
    """Keys are made of s (m + p): as with the position s (m + p) - m, which leaves values as they are."""
    cross, random = tiny_model(memory).memory.attention.layers[0].cross_attn_image, torch.Generator().manual_seed(0)
    unrotated = 16 if memory == "perceiver" else 0
    count = 16 + unrotated

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random)

    tokens, position, pointers, times = (
        noise(2, 3, count, 64),
        noise(2, 3, count, 64),
        noise(2, 8, 64),
        noise(2, 8, 64),
    )
    frame_scale, pointer_scale = 1 + 0.3 * noise(2, 3), 1 + 0.3 * noise(2, 8)
    scaled = MemoryContext(tokens, position, unrotated, (4, 4), pointers, times, frame_scale, pointer_scale)
    moved = MemoryContext(
        tokens,
        frame_scale[..., None, None] * (tokens + position) - tokens,
        unrotated,
        (4, 4),
        pointers,
        pointer_scale[..., None] * (pointers + times) - pointers,
    )
    x = noise(2, 16, 256)
    with torch.inference_mode():
        found, expected = (cross.attend_to(x, (4, 4), memory) for memory in (scaled, moved))
    assert torch.allclose(found, expected, atol=1e-4)


def searching(uncertainty: float = 1e9, **options: object) -> SamTracker:
    policy = Sam2LongPolicy(uncertainty=uncertainty)
    return SamTracker(TorchRuntime(tiny_model(policy=policy)), logits=True, **options)  # type: ignore[arg-type]


class Counted:
    """Counts the hypotheses that a runtime tracks."""

    def __init__(self, tracker: SamTracker) -> None:
        self.rows: list[int] = []
        self._track = tracker.runtime.track
        tracker.runtime.track = self.track  # type: ignore[method-assign]

    def track(self, features: object, memories: list) -> object:
        self.rows.append(len(memories))
        return self._track(features, memories)


def test_identical_paths_are_computed_once_and_different_ones_together() -> None:
    certain, uncertain = searching(0), searching()
    counts = [Counted(t) for t in (certain, uncertain)]
    for frame in clip(4):
        for t in (certain, uncertain):
            t.step(frame, [BOX] if frame.index == 0 else [])
    assert counts[0].rows[:2] == counts[1].rows[:2] == [1, 1]
    assert counts[1].rows[2] > 1
    assert len(uncertain.objects[1].hypotheses) == len(certain.objects[1].hypotheses) == 3
    shared = [{e.index: e.tokens for e in h.bank.entries} for h in uncertain.objects[1].different]
    assert all(tokens[0] is shared[0][0] and tokens[1] is shared[0][1] for tokens in shared), "not copied"


def test_a_prompt_leaves_one_path() -> None:
    for prompt in (BOX, Points(object_id=1, xy=[(22, 32)])):
        t = searching()
        for frame in clip(5):
            t.step(frame, [prompt] if frame.index in (0, 4) else [])
        (path,) = t.objects[1].hypotheses
        assert path.bank.entries[-1].prompted
        assert path.bank.state == 0 or prompt is BOX


def test_objects_with_paths_are_tracked_as_if_alone() -> None:
    """Different ages, a correction, and a state that is restored with its identical paths."""
    together, alone, restored = searching(), searching(), searching()
    click = Points(object_id=2, xy=[(40.0, 30.0)])
    for frame in clip(9):
        prompts = {0: [BOX], 2: [click], 6: [Points(object_id=1, xy=[(22, 32)])]}.get(frame.index, [])
        got = together.step(frame, prompts)
        if frame.index >= 2:
            want = alone.step(frame, [click] if frame.index == 2 else []).logits[0]
            assert np.linalg.norm(got.logits[1] - want) <= 1e-3 * np.linalg.norm(want), "bfloat16 memory included"
        if frame.index > 5:
            assert np.array_equal(restored.step(frame, prompts).logits, got.logits)
        if frame.index == 5:
            restored.restore(together.state())
            kept = [[len(o.hypotheses), len(o.different)] for o in (restored.objects[1], together.objects[1])]
            assert kept[0] == kept[1]


class Changing(Sam2LongPolicy):
    """Prefers another path on every fourth frame."""

    def select(self, candidates: Sequence[Candidates], histories: Sequence[History]) -> Sequence[Choice]:
        choices = super().select(candidates, histories)
        return choices if histories[0].now % 4 else choices[::-1]


def final(horizon: int = 1000) -> SamTracker:
    policy = Changing(uncertainty=1e9, final=True, horizon=horizon)
    return SamTracker(TorchRuntime(tiny_model(policy=policy)))


def test_revised_results_are_those_of_the_path_that_is_best_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was shown before; a record of all that every path ever found tells."""
    t = final()
    branch, parents = t._branch, {}

    def noted(parent: Hypothesis, choice: Choice) -> Hypothesis:
        child = branch(parent, choice)
        parents[child] = parent
        return child

    monkeypatch.setattr(t, "_branch", noted)
    found: dict[Hypothesis, list[np.ndarray]] = {}
    shown, changes = {}, 0
    for frame in clip(40):
        result = t.step(frame, [BOX] if frame.index == 0 else [])
        shown |= {r.index: r.masks[0] for r in (result, *result.revised)}
        changes += len(result.revised)
        paths = t.objects[1].different
        masks = t.runtime.output([h.known_prediction for h in paths], (64, 64), exclusive=False, logits=False)
        found = {h: [*found.get(parents[h], []), mask] for h, mask in zip(paths, masks.masks_khw, strict=True)}
    assert changes
    assert np.array_equal(list(shown.values()), found[t.objects[1].best])


def test_revised_results_are_bounded() -> None:
    t, longest = final(horizon=6), 0
    for frame in clip(40):
        t.step(frame, [BOX] if frame.index == 0 else [])
        for path in t.objects[1].different:
            node, length = path.past, 0
            while node is not None:
                node, length = node.before, length + 1
            longest = max(longest, length)
    assert 2 < longest <= 7
    with pytest.raises(ConfigError, match="cannot save its state"):
        t.state()
    t.step(clip(41)[40], [BOX])
    assert t.objects[1].best.past is not None
    assert t.objects[1].best.past.before is None, "a prompt settles what was before"


def test_a_file_gets_the_final_results() -> None:
    """In the second pass over the file; several objects, each with its own."""
    prompts = {0: [BOX], 5: [Points(object_id=2, xy=[(40.0, 30.0)])]}
    t = final()
    shown: dict[tuple[int, int], np.ndarray] = {}
    for frame in clip(20):
        result = t.step(frame, prompts.get(frame.index, ()))
        shown |= {(r.index, number): mask for r in (result, *result.revised) for number, mask, *_ in r.rows()}
    seen = 0
    for _, result in track_all_directions(final(), ClipSource(20), prompts, "forward", lambda _: True):
        for number, mask, *_ in result.rows():
            assert np.array_equal(mask, shown[result.index, number])
            seen += 1
    assert seen == len(shown) == 35
