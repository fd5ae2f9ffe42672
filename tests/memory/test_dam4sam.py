"""The decisions of DAM4SAM and D4SM: those of the published runs, and each rule on candidates made by hand."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_sam import clip, tiny_model

from samvideo.errors import ConfigError
from samvideo.memory.bank import MemoryBank
from samvideo.memory.base import History, MemoryEntry
from samvideo.memory.d4sm import D4smPolicy
from samvideo.memory.dam4sam import Assessment, Dam4SamPolicy, DistractorPolicy, DistractorState, box_overlaps
from samvideo.runtime import SelectedMemory
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.sam import SamTracker
from samvideo.types import Box, Points

FIXTURES = Path(__file__).parents[1] / "parity" / "fixtures"
SIZE = 64, 48
SMALL, LARGE = Dam4SamPolicy(), D4smPolicy()


def rectangle(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    """Pixels from the first corner up to the last, exclusive."""
    mask = np.zeros(SIZE[::-1], bool)
    mask[y1:y2, x1:x2] = True
    return mask


OBJECT, NEAR, TWIN = rectangle(10, 10, 20, 20), rectangle(10, 10, 21, 20), rectangle(40, 10, 50, 20)
NOTHING = rectangle(0, 0, 0, 0)


@dataclass
class Proposed:
    """Candidates with given masks; by default the first is chosen, and shows the object."""

    masks_nhw: tuple[np.ndarray, ...] = (OBJECT, NEAR, NEAR)
    quality: tuple[float, ...] = (0.9, 0.7, 0.6)
    presence: float = 5.0
    pixels: int | None = None
    ambiguous: bool = True

    @property
    def quality_n(self) -> np.ndarray:
        return np.array(self.quality, np.float32)

    def areas(self) -> np.ndarray:
        return np.array([mask.sum() if self.pixels is None else self.pixels for mask in self.masks_nhw])

    def masks(self, size_wh: tuple[int, int], rows: Any = None) -> np.ndarray:
        assert size_wh == SIZE
        return np.stack(self.masks_nhw)[list(range(3)) if rows is None else list(rows)]


PLAIN, DISTRACTOR = Proposed(), Proposed((OBJECT, NEAR, TWIN))
ABSENT = Proposed(presence=-1.0)
EMPTY = Proposed((NOTHING, NOTHING, NOTHING))


def insert(bank: MemoryBank, index: int, prompted: bool = False, presence: float = 5.0, box: Any = None) -> None:
    bank.insert(MemoryEntry(index, prompted, f"tokens {index}", f"pointer {index}", 0.9, presence, box))


def step(bank: MemoryBank, index: int, proposed: Proposed = PLAIN, box: Any = None) -> bool:
    """Track one frame; returns whether its memory is of the binary mask."""
    (choice,) = bank.policy.select([proposed], [bank.history(index, SIZE)])
    bank.state = choice.state
    insert(bank, index, presence=proposed.presence, box=box)
    return choice.binarise


def started(policy: DistractorPolicy, at: int = 0) -> MemoryBank:
    bank = MemoryBank(policy)
    insert(bank, at, prompted=True)
    return bank


def frames(memory: SelectedMemory) -> list[int]:
    return [int(frame.tokens.split()[1]) for frame in memory.frames]


def rows(memory: SelectedMemory) -> list[int]:
    return [frame.code_row for frame in memory.frames]


def pointers(memory: SelectedMemory) -> list[int]:
    return [int(pointer.pointer.split()[1]) for pointer in memory.pointers]


@dataclass(frozen=True)
class Replayed(Dam4SamPolicy):
    """DAM4SAM with the published findings on every frame."""

    published: dict[int, dict[str, Any]] = field(default_factory=dict)

    def assess(self, proposed: Any, history: History) -> Assessment:
        known = self.published[history.now]
        area = int(known["n_pixels"])
        ratio = self._area_ratio(area, history)
        assert ratio == pytest.approx(float(known["area_ratio"]), abs=1e-9)
        return Assessment(int(known["mask_index"]), area, area, ratio, (), bool(known["promoted"]))


@pytest.mark.parametrize(("name", "stretch"), [("dam4sam", True), ("dam4sam-span", False)])
def test_every_recall_is_the_published_one(name: str, stretch: bool) -> None:
    fixture = dict(np.load(FIXTURES / f"sam2.1-tiny--{name}.npz"))
    published: dict[int, dict[str, Any]] = {index: {} for index in range(24)}
    for key in fixture:
        if key.startswith("dam4sam/"):
            published[int(key.split("/")[1])][key.split("/")[-1]] = fixture[key]
    bank = started(Replayed(stretch=stretch, published=published))
    for index in range(1, 24):
        expected, memory = published[index], bank.recall(index)
        assert frames(memory) == expected["memory_frames"].tolist()
        assert rows(memory) == expected["memory_rows"].tolist()
        assert pointers(memory) == expected["pointer_frames"].tolist()
        span = int(expected["pointer_span"])
        ages = [pointer.age * span / 15 for pointer in memory.pointers]
        assert ages == pytest.approx(expected["pointer_ages"].tolist())
        proposed = Proposed(quality=expected["ious"], presence=expected["object_score"].item())
        assert step(bank, index, proposed) == bool(expected["promoted"])


def test_a_distractor_is_what_changes_the_box() -> None:
    assert box_overlaps(OBJECT, np.stack([NEAR, TWIN])) == pytest.approx([9 / 10, 9 / 39])
    assert box_overlaps(OBJECT, np.stack([NEAR, TWIN]), inclusive=True) == pytest.approx([10 / 11, 10 / 40])
    assert box_overlaps(OBJECT, np.stack([OBJECT, rectangle(11, 11, 15, 15)])) == [], "nothing is left of them"
    line = rectangle(10, 10, 11, 20)
    assert box_overlaps(line, np.stack([rectangle(10, 10, 11, 25), TWIN])) == [1.0, 0.0]


def test_the_largest_connected_part_counts() -> None:
    corner = rectangle(20, 20, 24, 24)  # 8-connected with a pixel of its own, nearer than the single far one
    speck = rectangle(24, 24, 25, 25) | rectangle(60, 40, 61, 41)
    assert box_overlaps(OBJECT, (corner | speck)[None]) == pytest.approx([9 * 9 / (14 * 14)])
    first = rectangle(0, 30, 2, 31) | rectangle(50, 40, 52, 41)
    assert box_overlaps(OBJECT, first[None]) == pytest.approx([9 * 9 / (19 * 20)]), "the first of equal parts"


@pytest.mark.parametrize(
    ("proposed", "promoted"),
    [
        (DISTRACTOR, True),
        (PLAIN, False),
        (Proposed((OBJECT, OBJECT, OBJECT)), False),
        (Proposed((OBJECT, NEAR, TWIN), (0.79, 0.7, 0.6)), False),
        (Proposed((NEAR, TWIN, OBJECT), (0.7, 0.6, 0.9)), True),
        (Proposed((rectangle(10, 10, 20, 22), NEAR, TWIN)), True),
        (Proposed((rectangle(10, 10, 20, 23), NEAR, TWIN)), False),
        (Proposed((rectangle(10, 10, 20, 17), NEAR, TWIN)), False),
        (Proposed((OBJECT, NEAR, TWIN), presence=-1.0), False),
        (Proposed((NOTHING, NEAR, TWIN)), False),
    ],
)
def test_what_promotes_a_frame(proposed: Proposed, promoted: bool) -> None:
    """Quality above 0.8, an area of 0.8 to 1.2 medians, and an alternative elsewhere."""
    bank = started(SMALL)
    for index in range(1, 4):
        step(bank, index)
    assert step(bank, 4, proposed) == promoted
    assert (4 in bank.state.promoted) == promoted


def test_the_first_tracked_frame_is_not_promoted_and_others_only_every_sixth() -> None:
    bank = started(SMALL)
    found = [index for index in range(1, 30) if step(bank, index, DISTRACTOR)]
    assert found == [2, 8, 14, 20, 26]


def test_the_median_is_of_ten_areas_that_are_not_empty() -> None:
    bank = started(SMALL)
    small = Proposed((rectangle(10, 10, 15, 20), NEAR, NEAR))
    for index in range(1, 20):
        step(bank, index, small if index < 12 else EMPTY)
    ratios = []
    for index in range(20, 28):
        (history,) = [bank.history(index, SIZE)]
        ratios.append(SMALL.assess(PLAIN, history).area_ratio)
        step(bank, index)
    assert ratios == pytest.approx([2, 2, 2, 2, 100 / 75, 1, 1, 1])
    later = bank.history(27 + 300, SIZE)
    assert SMALL.assess(PLAIN, later).area_ratio == 1
    assert SMALL._earlier_areas(later) == [], "too long ago"


def test_promoted_memory_is_the_newest_for_one_frame_and_lasts_then() -> None:
    bank = started(SMALL)
    for index in range(1, 41):
        step(bank, index, DISTRACTOR if index in (6, 13) else PLAIN)
        if index == 13:
            assert (frames(bank.recall(14)), rows(bank.recall(14))) == ([6, 0, 5, 10, 13], [6, 6, 2, 1, 0])
    memory = bank.recall(41)
    assert frames(memory) == [13, 0, 6, 25, 30, 35, 40]
    assert rows(memory) == [6, 6, 6, 3, 2, 1, 0]
    assert pointers(memory) == [13, 0, 6, *range(40, 25, -1)]


def test_of_many_promoted_frames_the_nearest_are_recalled() -> None:
    bank = started(SMALL)
    for index in range(1, 60):
        step(bank, index, DISTRACTOR)
    assert frames(bank.recall(60)) == [56, 0, 50, 44, 45, 55, 59]


def test_absent_and_empty_frames_are_not_recalled_but_a_few_lost_pixels_are() -> None:
    bank = started(SMALL)
    for index in range(1, 15):
        step(bank, index, {5: ABSENT, 12: EMPTY, 13: EMPTY, 14: ABSENT}.get(index, PLAIN))
    memory = bank.recall(15)
    assert (frames(memory), rows(memory)) == ([0, 10, 11], [6, 1, 0])
    assert pointers(memory) == [0, 11, 10, 9, 8, 7, 6, 4, 3, 2, 1]
    speck = Proposed((NOTHING, NOTHING, NOTHING), pixels=2)
    step(bank, 15, speck)
    assert frames(bank.recall(16)) == [0, 10, 15], "low-resolution pixels count, not those of the frame"
    for index in range(16, 200):
        step(bank, index, ABSENT)
    assert frames(bank.recall(200)) == [0, 10, 15], "without limit of age"
    assert pointers(bank.recall(200)) == [0]
    assert len(bank.entries) <= 4


def test_a_mask_that_another_object_covers_is_visible() -> None:
    bank = started(SMALL)
    step(bank, 1, box=None)
    assert frames(bank.recall(2)) == [0, 1]
    (choice,) = SMALL.select([EMPTY], [bank.history(2, SIZE)])
    bank.state = choice.state
    insert(bank, 2, box=(10, 10, 20, 20))
    assert frames(bank.recall(3)) == [0, 2], "the user corrected the empty mask"


def test_time_is_counted_from_the_first_prompt() -> None:
    late, early = started(SMALL, at=7), started(SMALL)
    for index in range(1, 30):
        for bank, offset in ((late, 7), (early, 0)):
            step(bank, index + offset, DISTRACTOR if index % 9 == 0 else PLAIN)
        found, expected = late.recall(index + 8), early.recall(index + 1)
        assert [i - 7 for i in frames(found)] == frames(expected)
        assert [p.age for p in found.pointers] == [p.age for p in expected.pointers]


@pytest.mark.parametrize("policy", [SMALL, LARGE], ids=["dam4sam", "d4sm"])
def test_corrections_last_before_promoted_frames(policy: DistractorPolicy) -> None:
    bank = started(policy)
    for index in range(1, 100):
        step(bank, index, DISTRACTOR)
        if index in (20, 50):
            bank.drop_near(index, 6)
            insert(bank, index, prompted=True)
    memory = bank.recall(100)
    lasting = [frame for frame, row in zip(frames(memory), rows(memory), strict=True) if row == 6]
    assert {0, 20, 50} < set(lasting)
    assert len(lasting) == 4
    assert bank.entries[0].prompted
    for index in range(100, 112):
        insert(bank, index, prompted=True)
    lasting = [
        frame for frame, row in zip(frames(bank.recall(112)), rows(bank.recall(112)), strict=True) if row == 6
    ]
    assert sorted(lasting) == [0, 109, 110, 111]
    assert sum(entry.prompted for entry in bank.entries) == 8


def test_areas_from_before_a_correction_do_not_count() -> None:
    bank = started(SMALL)
    for index in range(1, 10):
        step(bank, index)
    insert(bank, 9, prompted=True)
    large = Proposed((rectangle(10, 10, 30, 30), NEAR, TWIN))
    assert not step(bank, 10, large), "the first frame after a prompt"
    assert step(bank, 11, large)


@pytest.mark.parametrize("policy", [SMALL, Dam4SamPolicy(drm=2, stride=3, gap=1, pointers=6), Dam4SamPolicy(drm=1)])
def test_all_that_is_ever_recalled_is_kept(policy: Dam4SamPolicy) -> None:
    """A bank that forgets nothing recalls the same, corrections of the newest frame included."""
    random = np.random.default_rng(0)
    bank, entries = started(policy), [MemoryEntry(0, True, "tokens 0", "pointer 0", presence=5.0)]
    promoted, blank = [], []
    for index in range(1, 200):
        proposed = (PLAIN, PLAIN, DISTRACTOR, EMPTY, ABSENT)[random.integers(5)]
        step(bank, index, proposed)
        entries.append(MemoryEntry(index, False, f"tokens {index}", f"pointer {index}", presence=proposed.presence))
        promoted += [index] if index in bank.state.promoted else []
        blank += [index] if index in bank.state.blank else []
        everything = History(index + 1, entries, DistractorState((), tuple(promoted), tuple(blank)))
        assert bank.recall(index + 1) == policy.recall(everything)
        assert frames(bank.recall(index)) == frames(policy.recall(everything._replace(now=index)))
    assert promoted


def test_the_short_list_of_d4sm() -> None:
    """Visible frames on the grid and the newest one; rows by place in the list, promoted ones among them."""
    bank = started(LARGE)
    lists = {}
    for index in range(1, 60):
        lists[index] = (frames(bank.recall(index)), rows(bank.recall(index)))
        assert not step(bank, index, {7: DISTRACTOR, 12: EMPTY}.get(index, PLAIN)), "nothing is encoded again"
    assert lists[1] == ([0], [6])
    assert lists[7] == ([0, 5, 6], [6, 1, 0])
    assert lists[8] == ([0, 5, 7], [6, 1, 0]), "promoted on the next frame"
    assert lists[9] == ([0, 5, 7, 8], [6, 2, 6, 0])
    assert lists[13] == ([0, 5, 7, 10, 11], [6, 3, 6, 1, 0])
    assert lists[14] == ([0, 5, 7, 10, 13], [6, 3, 6, 1, 0])
    assert lists[59] == ([0, 7, 40, 45, 50, 55, 58], [6, 6, 4, 3, 2, 1, 0])


def test_d4sm_keeps_three_promoted_and_three_recent_frames() -> None:
    bank = started(LARGE)
    for index in range(1, 100):
        step(bank, index, DISTRACTOR)
    assert bank.state.promoted == (80, 86, 92, 98)
    assert frames(bank.recall(100)) == [0, 86, 90, 92, 95, 98, 99]
    assert rows(bank.recall(100)) == [6, 6, 4, 6, 2, 6, 0]


def test_pointers_of_d4sm_are_aged_by_rank() -> None:
    bank = started(LARGE)
    for index in range(1, 60):
        unit = max(1, len(bank.recall(index).pointers) - 1)
        ages = [pointer.age * unit / 15 for pointer in bank.recall(index).pointers]
        assert ages == pytest.approx([index, *range(1, min(sum(i % 2 for i in range(1, index)), 15) + 1)])
        step(bank, index, PLAIN if index % 2 else EMPTY)
    assert pointers(bank.recall(60)) == [0, *range(59, 30, -2)]


@pytest.mark.parametrize("policy", [SMALL, LARGE], ids=["dam4sam", "d4sm"])
def test_2000_frames(policy: DistractorPolicy) -> None:
    """Bounded, whatever comes: distractors, absence, corrections."""
    random = np.random.default_rng(0)
    bank, sizes = started(policy), []
    for index in range(1, 2001):
        step(bank, index, (PLAIN, DISTRACTOR, DISTRACTOR, EMPTY, ABSENT)[random.integers(5)])
        if index % 50 == 0:
            bank.drop_near(index, 6)
            insert(bank, index, prompted=True)
        state = bank.state
        sizes.append((len(bank.entries), len(state.areas) + len(state.promoted) + len(state.blank)))
        memory = bank.recall(index + 1)
        assert all(count <= most for count, most in zip(memory.shape, policy.capacity, strict=True))
        assert None not in [frame.tokens for frame in memory.frames]
    assert max(entries for entries, _ in sizes) <= policy.prompted + policy.drm + 7 + 15
    assert max(values for _, values in sizes) <= 10 + policy.drm + 4 + 2 * policy.prompted
    assert sum(entry.tokens is not None for entry in bank.entries) <= policy.prompted + policy.drm + 7


@pytest.mark.parametrize("options", [{"drm": 0}, {"drm": 7}, {"stride": 0}, {"pointers": -1}, {"gap": 0}])
def test_senseless_options_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        Dam4SamPolicy(**options)  # type: ignore[arg-type]


BOX, CLICK = Box(object_id=1, xyxy=(10, 20, 34, 44)), Points(object_id=2, xy=[(40.0, 30.0)])
EASY = {"quality": 0.0, "least_ratio": 0.0, "most_ratio": 99.0, "overlap": 1.0, "gap": 2}


@pytest.mark.parametrize("policy", [Dam4SamPolicy(**EASY), D4smPolicy(**EASY)], ids=["dam4sam", "d4sm"])  # type: ignore[arg-type]
def test_objects_of_different_age_and_a_restored_tracker(policy: DistractorPolicy) -> None:
    """As if each were alone, while frames are promoted and one object is corrected."""
    model = tiny_model("plain", policy, 256)
    together, single, first = (SamTracker(TorchRuntime(model), logits=True) for _ in range(3))
    for frame in clip(14):
        prompts = {0: [BOX], 3: [CLICK], 9: [Points(object_id=2, xy=[(38.0, 30.0)])]}.get(frame.index, [])
        found = together.step(frame, prompts)
        for tracker, object_id in ((first, 1), (single, 2)):
            expected = tracker.step(frame, [p for p in prompts if p.object_id == object_id])
            for row, logits in zip((i for i in found.object_ids if i == object_id), expected.logits, strict=True):
                error = np.linalg.norm(found.logits[found.object_ids.index(row)] - logits)
                assert error <= 1e-4 * np.linalg.norm(logits)
        if frame.index == 7:
            state = together.state()
            together.reset()
            together.restore(state)
    assert len(together.objects[1].best.bank.state.promoted) > 1
    together.reset()
    alone = together.step(clip(1)[0], [CLICK])
    assert np.array_equal(
        alone.logits, SamTracker(TorchRuntime(model), logits=True).step(clip(1)[0], [CLICK]).logits
    )


def test_a_box_becomes_a_mask_and_clicks_do_not() -> None:
    model = tiny_model("plain", "dam4sam")
    model.decoder.pred_obj_score_head.layers[-1].bias.data.fill_(-20.0)
    tracker = SamTracker(TorchRuntime(model))
    result = tracker.step(clip(1)[0], [BOX, CLICK])
    boxed, clicked = (tracker.objects[i].best.known_prediction for i in (1, 2))
    assert np.array_equal(boxed.given, result.mask(1))
    assert float(boxed.logits.max()) == 10, "as of a given mask"
    assert float(boxed.presence) == 10, "the score of the box does not count"
    assert clicked.given is None
    assert not result.mask(2).any()
