"""SAMURAI's decisions on the candidates of the published run, without any network; and its limits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samvideo.memory.bank import MemoryBank
from samvideo.memory.base import MemoryEntry
from samvideo.memory.samurai import BoxFilter, SamuraiPolicy, box_ious

FIXTURE = Path(__file__).parents[1] / "parity" / "fixtures" / "sam2.1-tiny--samurai.npz"


class Proposed:
    """Candidates with given quality, presence and boxes."""

    ambiguous = True

    def __init__(self, quality: Any, presence: float, boxes: Any) -> None:
        self.quality_n, self.presence = np.asarray(quality, np.float32), presence
        self._boxes = np.asarray(boxes, np.float32)

    def boxes(self) -> np.ndarray:
        return self._boxes


def insert(bank: MemoryBank, index: int, prompted: bool = False) -> None:
    bank.insert(MemoryEntry(index, prompted, f"tokens {index}", f"pointer {index}"))


def step(bank: MemoryBank, index: int, proposed: Proposed) -> int | None:
    (choice,) = bank.policy.select([proposed], [bank.history(index)])
    bank.state = choice.state
    insert(bank, index)
    return choice.mask


def test_every_decision_is_the_published_one() -> None:
    fixture, bank = dict(np.load(FIXTURE)), MemoryBank(SamuraiPolicy())
    insert(bank, 0, prompted=True)
    for index in range(1, 24):
        expected = {key.split("/")[-1]: fixture[key] for key in fixture if key.startswith(f"samurai/{index}/1/")}
        memory = bank.recall(index)
        assert [int(f.tokens.split()[1]) for f in memory.frames] == expected["memory_frames"].tolist()
        assert [f.code_row for f in memory.frames] == expected["memory_rows"].tolist()
        assert [p.age for p in memory.pointers] == expected["pointer_ages"].tolist()
        proposed = Proposed(expected["ious"], expected["object_score"].item(), expected["mask_boxes"])
        assert step(bank, index, proposed) == expected["mask_index"]
        assert bank.state.stable == expected["stable_frames"]
        np.testing.assert_allclose(bank.state.mean, expected["kf_mean"], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(bank.state.covariance, expected["kf_covariance"], rtol=1e-9, atol=1e-9)


def test_motion_overrules_quality_once_the_filter_is_stable() -> None:
    bank = MemoryBank(SamuraiPolicy())
    insert(bank, 0, prompted=True)
    still, far = (40, 40, 80, 80), (300, 300, 380, 380)
    for index in range(1, 16):
        assert step(bank, index, Proposed([0.7, 0.8, 0.1], 5, [far, still, far])) == 1
    assert step(bank, 16, Proposed([0.9, 0.8, 0.1], 5, [far, still, far])) == 1
    assert step(bank, 17, Proposed([0.9, 0.2, 0.1], 5, [far, still, far])) == 0, "not at any price"


def test_bad_frames_are_not_recalled_but_for_the_last_one() -> None:
    bank, box = MemoryBank(SamuraiPolicy()), [(40, 40, 80, 80)] * 3
    insert(bank, 0, prompted=True)
    for index in range(1, 30):
        quality, presence = (0.2, 5.0) if index % 3 == 0 else (0.9, -1.0) if index % 3 == 1 else (0.9, 5.0)
        step(bank, index, Proposed([quality] * 3, presence, box))
    recalled = [frame.tokens for frame in bank.recall(30).frames]
    assert recalled == ["tokens 0", *(f"tokens {i}" for i in (14, 17, 20, 23, 26, 29))]
    assert sum(entry.tokens is not None for entry in bank.entries) <= 8
    assert bank.recall(30).shape <= bank.policy.capacity


def test_an_object_out_of_view_for_good_keeps_the_bank_bounded() -> None:
    bank = MemoryBank(SamuraiPolicy())
    insert(bank, 0, prompted=True)
    for index in range(1, 200):
        step(bank, index, Proposed([0.9, 0.5, 0.4], -3, np.zeros((3, 4))))
        assert np.isfinite(bank.state.mean).all()
    assert len(bank.entries) <= 1 + 15
    assert [frame.code_row for frame in bank.recall(200).frames] == [6, 0]


def test_the_filter_follows_a_box_that_moves_steadily() -> None:
    box_filter = BoxFilter()
    mean, covariance = box_filter.start(np.array([10, 20, 50, 60], np.float32))
    for k in range(1, 40):
        mean, covariance = box_filter.predict(mean, covariance)
        mean, covariance = box_filter.update(mean, covariance, np.array([10, 20, 50, 60], np.float32) + 3 * k)
    mean, _ = box_filter.predict(mean, covariance)
    assert mean[:4] == pytest.approx([30 + 120, 40 + 120, 1, 40], abs=0.5)


def test_overlap_of_boxes() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [0, 0, 0, 0]], np.float32)
    assert box_ious(boxes, np.array([0.0, 0, 10, 10])) == pytest.approx([1, 1 / 3, 0, 0])
