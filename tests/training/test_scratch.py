"""Models that are trained from nothing begin with a memory that says something."""

import pytest
import torch
from miniature import SIDE, miniature
from torch import Tensor

from samvideo.memory.bank import MemoryBank
from samvideo.memory.base import MemoryEntry
from samvideo.models import VideoModel
from samvideo.training.scratch import initialise


def embedding(model: VideoModel, frame: Tensor, mask: Tensor) -> Tensor:
    """The features of a frame, conditioned on the memory of the same frame with a mask."""
    with torch.no_grad():
        features = model.encode(frame)
        prediction = model.use_mask_as_output(features, mask)
        tokens = model.encode_memory(features, prediction, torch.tensor([True]))
        bank = MemoryBank(model.policy)
        bank.insert(MemoryEntry(0, True, tokens.row(0), prediction.pointer[:1]))
        return model.attend_to_memory(features, [bank.recall(1)])


@pytest.mark.parametrize("name", ["edgetam", "efficienttam-ti"])
def test_what_is_remembered_changes_features(name: str) -> None:
    frame = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    left = torch.zeros(1, 1, SIDE, SIDE)
    left[..., : SIDE // 2] = 1
    changes = []
    for prepared in (False, True):
        model = miniature(name)
        if prepared:
            initialise(model, 1)
        one, other = embedding(model, frame, left), embedding(model, frame, 1 - left)
        changes.append(((one - other).norm() / one.norm()).item())
    assert changes[1] > 3 * changes[0]
    assert changes[1] > 0.05


def test_the_seed_decides() -> None:
    states = []
    for seed in (1, 1, 2):
        model = miniature("edgetam")
        initialise(model, seed)
        states.append(model.memory.state_dict())
    equal = [all(torch.equal(states[0][key], other[key]) for key in states[0]) for other in states[1:]]
    assert equal == [True, False]
