"""Stored numbers of published methods of compression, and what they are computed from; see parity/README.md."""

from collections.abc import Callable

import numpy as np
import torch
from check_images import OWN, script
from numpy.lib.npyio import NpzFile
from torch import Tensor, nn

from samvideo.encoders.sam_vit import SamVit, SamVitConfig

SEEDED = script(OWN / "seeded_image2.py")
GLOBAL = (2, 5, 8, 11)
MEAN, DEVIATION = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])


def stored_numbers(name: str) -> NpzFile:
    fixture: NpzFile = np.load(OWN / f"{name}.npz")
    return fixture


def gauss(name: str, *shape: int) -> Tensor:
    return torch.from_numpy(SEEDED.gauss(name, shape))


def close(ours: Tensor, stored: Tensor, tolerance: float = 1e-6) -> None:
    """Relative L2 error."""
    assert ours.shape == stored.shape
    assert torch.linalg.norm(ours.double() - stored) <= tolerance * torch.linalg.norm(stored.double())


def small_sam(weight: Callable[[str, tuple[int, ...]], np.ndarray]) -> SamVit:
    """SAM's encoder for pictures of 256 pixels, with a weight for each of our names and shapes."""
    model = SamVit(SamVitConfig(48, 4, 12, GLOBAL, 192, window=7)).eval()
    model.pos_embed = nn.Parameter(torch.zeros(1, 16, 16, 48))
    for i in GLOBAL:
        for axis in "hw":
            setattr(model.blocks[i].attn, f"rel_pos_{axis}", nn.Parameter(torch.zeros(31, 12)))
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(torch.from_numpy(weight(name, tuple(value.shape))))
    return model


def pictures(*frames: int) -> Tensor:
    """(B, 3, 256, 256), normalised as SAM does."""
    batch = np.stack([(SEEDED.picture(frame, 256) - MEAN) / DEVIATION for frame in frames])
    return torch.from_numpy(batch.transpose(0, 3, 1, 2).astype(np.float32))
