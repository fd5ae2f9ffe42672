"""Stored numbers of published methods of compression, and what they are computed from; see parity/README.md."""

import numpy as np
import torch
from check_images import OWN, script
from numpy.lib.npyio import NpzFile
from torch import Tensor

SEEDED = script(OWN / "seeded_image2.py")


def stored_numbers(name: str) -> NpzFile:
    fixture: NpzFile = np.load(OWN / f"{name}.npz")
    return fixture


def gauss(name: str, *shape: int) -> Tensor:
    return torch.from_numpy(SEEDED.gauss(name, shape))


def close(ours: Tensor, stored: Tensor, tolerance: float = 1e-6) -> None:
    """Relative L2 error."""
    assert ours.shape == stored.shape
    assert torch.linalg.norm(ours.double() - stored) <= tolerance * torch.linalg.norm(stored.double())
