"""Small transformer encoders and pictures, for tests of cutting them."""

import torch
import torch.nn.functional as F
from tiny_sam import TINY_VIT
from torch import Tensor

from samvideo.encoders.base import ImageEncoder
from samvideo.encoders.hiera import Hiera, HieraConfig
from samvideo.encoders.sam_vit import SamVit, SamVitConfig
from samvideo.encoders.vit import PlainVit

ENCODERS = {
    "plain": lambda: PlainVit(TINY_VIT),
    "sam": lambda: SamVit(SamVitConfig(32, 2, 3, (1,), 64, window=3)),
    "hiera": lambda: Hiera(HieraConfig(16, 1, (1, 2, 3, 1), (4,), (4, 2, 2, 1))),
}


def encoder(kind: str) -> ImageEncoder:
    torch.manual_seed(0)
    made: ImageEncoder = ENCODERS[kind]().eval()
    with torch.no_grad():
        for value in made.parameters():
            value.copy_(0.3 * torch.randn(value.shape))
    return made


def smooth_images(count: int) -> list[Tensor]:
    """Random ones, (1, 3, 64, 64)."""
    coarse = torch.randn(count, 1, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    return [F.interpolate(one, size=(64, 64), mode="bicubic") for one in coarse]
