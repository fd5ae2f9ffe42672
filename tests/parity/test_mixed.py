"""bfloat16 as `--dtype auto` takes it, against the published float32 masks; see docs/speed.md for all fixtures.

Seeded weights give logits near zero everywhere, which is harder than trained ones. Some fixtures do not reach the
aim of 0.99: the bounds are a little below what was measured.
"""

from pathlib import Path

import pytest
import torch
from check import run

FIXTURES = Path(__file__).parent / "fixtures"


def test_masks_in_bfloat16() -> None:
    """The worst of all fixtures, frames 0 and 1: a mask of 110 sampled pixels."""
    ious = run(FIXTURES / "efficienttam-ti-512--box.npz", 1, torch.bfloat16).ious
    assert ious, "masks of a tenth to nine tenths of the frame"
    assert min(ious.values()) >= 0.91


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stem", "least"),
    [
        ("surgical-sam2-s-512--box", 0.95),
        ("edgetam--box", 0.985),
        pytest.param("sam2.1-tiny--box", 0.985, marks=pytest.mark.long),
        pytest.param("sam2-tiny--box", 0.985, marks=pytest.mark.long),
        pytest.param("efficienttam-ti--box", 0.97, marks=pytest.mark.long),
    ],
)
def test_masks_of_others_in_bfloat16(stem: str, least: float) -> None:
    ious = run(FIXTURES / f"{stem}.npz", 2, torch.bfloat16).ious
    assert ious
    assert min(ious.values()) >= least
