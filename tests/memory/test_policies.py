"""Which frames are kept and recalled: each option of each policy changes something."""

import pytest
import torch

from samvideo.errors import ConfigError
from samvideo.memory.bank import MemoryBank
from samvideo.memory.base import Choice, History, MemoryEntry
from samvideo.memory.fifo import FifoPolicy
from samvideo.memory.pruning import PruningPolicy
from samvideo.runtime import SelectedMemory
from samvideo.tensors import MemoryTokens


def entry(index: int, prompted: bool = False, angle: float | None = None) -> MemoryEntry:
    """Tokens are unit vectors at `angle`, so similarity is under control; the pointer holds the index."""
    turn = torch.tensor(float(index) if angle is None else angle)
    features = torch.stack([turn.cos(), turn.sin()]).repeat(1, 4, 32).bfloat16()
    tokens = MemoryTokens(features, torch.zeros(1, 4, 64), 0, (2, 2))
    return MemoryEntry(index, prompted, tokens, torch.full((1, 256), float(index)))


def line(count: int, prompted: tuple[int, ...] = (0,)) -> list[MemoryEntry]:
    return [entry(i, i in prompted) for i in range(count)]


def recall(policy: FifoPolicy, entries: list[MemoryEntry], index: int) -> SelectedMemory:
    return policy.recall(History(index, entries))


def rows(found: SelectedMemory) -> list[int]:
    return [frame.code_row for frame in found.frames]


def ages(found: SelectedMemory) -> list[float]:
    return [pointer.age for pointer in found.pointers]


def test_order_rows_and_ages() -> None:
    """Prompted first (row 6), then from six frames back (row 5) to the last (row 0); pointers go on to 15."""
    found = recall(FifoPolicy(), line(20), 20)
    assert rows(found) == [6, 5, 4, 3, 2, 1, 0]
    assert ages(found) == [20, *range(1, 16)]
    assert all(20 - p.age == int(p.pointer[0, 0]) for p in found.pointers)


def test_frames_and_pointers() -> None:
    found = recall(FifoPolicy(frames=2, pointers=3), line(20), 20)
    assert (rows(found), ages(found)) == ([6, 1, 0], [20, 1, 2, 3])


def test_stride_takes_the_last_frame_and_then_every_nth() -> None:
    entries = line(20)
    found = recall(FifoPolicy(stride=3), entries, 20)
    by_tokens = {id(e.tokens): e.index for e in entries}
    assert [by_tokens[id(frame.tokens)] for frame in found.frames] == [0, 6, 9, 12, 15, 18, 19]


@pytest.mark.parametrize(
    "policy", [FifoPolicy(stride=s, frames=f) for s, f in ((1, 6), (5, 3), (4, 1), (3, 6))], ids=str
)
def test_tokens_are_kept_only_while_they_can_be_recalled(policy: FifoPolicy) -> None:
    """What is recalled is what a bank that forgets nothing recalls, corrections of the newest frame included."""
    bank, entries = MemoryBank(policy), line(40)
    for index in range(1, len(entries)):
        bank.insert(entries[index - 1])
        assert rows(bank.recall(index)) == rows(recall(policy, entries[:index], index))
        if policy.stride > 1 and index > 1:
            assert rows(bank.recall(index - 1)) == rows(recall(policy, entries[: index - 1], index - 1))
        assert sum(e.tokens is not None for e in bank.entries) <= 1 + policy.frames + 2 * (policy.stride > 1)


def test_no_pointers() -> None:
    policy = FifoPolicy(pointers=0)
    assert recall(policy, line(20, (0, 15)), 20).shape == (7, 0)
    assert policy.capacity == (14, 0)
    bank = MemoryBank(policy)
    for e in line(20):
        bank.insert(e)
    assert [e.index for e in bank.entries] == [0, *range(14, 20)]


def test_nearest_prompted_frames() -> None:
    """The closest on either side, then by distance; the others count as ordinary frames when in reach."""
    entries = line(20, prompted=(0, 5, 17, 19))
    found = recall(FifoPolicy(nearest=2), entries, 18)
    assert rows(found) == [6, 6, 5, 4, 3, 2, 1]
    assert ages(found)[:1] == [1], "the prompted frame ahead gives no pointer"
    all_of_them = recall(FifoPolicy(), entries, 18)
    assert rows(all_of_them) == [6, 6, 6, 6, 5, 4, 3, 2, 1]


def test_the_closest_prompted_frame_may_come_first() -> None:
    entries = line(20, prompted=(2, 10))
    by_tokens = {id(e.tokens): e.index for e in entries}
    policy = FifoPolicy(closest_first=True, frames=1)
    for now, order in ((12, [10, 2, 11]), (5, [2, 10, 4]), (11, [10, 2, 10])):
        frames = recall(policy, entries, now).frames
        assert [by_tokens[id(frame.tokens)] for frame in frames] == order
        assert [frame.code_row for frame in frames] == [6, 6, 0]
    assert rows(recall(policy, line(1), 1)) == [6], "the only frame is read once"


def test_pointers_from_the_future_only_on_request() -> None:
    entries = line(10, prompted=(0, 9))
    assert ages(recall(FifoPolicy(pointers=1), entries, 5)) == [5, 1]
    assert ages(recall(FifoPolicy(pointers=1, past_only=False), entries, 5)) == [5, -4, 1]


def test_bank_replaces_the_same_frame_and_clears_around() -> None:
    bank = MemoryBank(FifoPolicy())
    for e in line(10):
        bank.insert(e)
    bank.insert(entry(9, prompted=True))
    assert [e.index for e in bank.entries].count(9) == 1
    other = bank.branch(Choice())
    bank.drop_near(9, 6)
    assert [e.index for e in bank.entries] == [0, 1, 2, 9]
    assert len(other.entries) == 10


def test_few_prompts_are_all_kept() -> None:
    bank = MemoryBank(FifoPolicy(prompted=8))
    for index in range(8):
        bank.insert(entry(index, prompted=True))
        assert len(bank.entries) == index + 1
    bank.insert(entry(8, prompted=True))
    assert [e.index for e in bank.entries] == [0, 2, 3, 4, 5, 6, 7, 8]


ANGLES = [0.0, 1.0, 0.05, 1.2, 0.9, 0.1, 0.0]  # of the newest seven; 2 and 5 look like the newest, frame 6


def looks(prompted: tuple[int, ...]) -> list[MemoryEntry]:
    return [entry(i, i in prompted, angle) for i, angle in enumerate(ANGLES)]


def test_pruning_leaves_out_what_is_most_like_the_newest() -> None:
    assert rows(recall(PruningPolicy(), looks((0,)), 7)) == [6, 5, 3, 2, 0]
    assert rows(recall(PruningPolicy(kept=6, removed=1), looks((0,)), 7)) == [6, 5, 3, 2, 1, 0]
    assert rows(recall(PruningPolicy(kept=6), looks((0,)), 7)) == [6, 5, 4, 3, 2, 1, 0], "not enough frames yet"


def test_pruning_never_takes_a_prompt_unless_published() -> None:
    entries = looks((0, 2))
    assert rows(recall(PruningPolicy(), entries, 7)) == [6, 6, 5, 3, 0]
    assert rows(recall(PruningPolicy(published=True), entries, 7)) == [6, 5, 3, 2, 0]


@pytest.mark.parametrize(
    "options", [{"frames": 7}, {"frames": -1}, {"pointers": -1}, {"prompted": 0}, {"stride": 0}, {"nearest": 1}]
)
def test_senseless_options_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        FifoPolicy(**options)  # type: ignore[arg-type]


def test_senseless_pruning_is_refused() -> None:
    with pytest.raises(ConfigError, match="pruning must"):
        PruningPolicy(removed=0)
