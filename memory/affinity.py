"""Keys and values: every cell reads the values of the cells of earlier frames that resemble it and lie near it.

L2 affinity between keys that frames have in common, values per object (STCN, Cheng et al. 2021; XMem, 2022; Cutie,
2023), all in one softmax. How much nearness counts is learned for each age of a frame: local for the last frame,
which carries the previous mask on, wide for the first. Only the first of the recalled frames, a prompted one, and
the newest are read, so that the cost per frame stays the same.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samvideo.memory.ridge import ridges
from samvideo.memory.target import CODES, Reader, TargetConfig, TargetMemory, full_precision, tokens_of
from samvideo.tensors import Grid

KIND = "memory method"
BIAS, LOCALITY = CODES.index("affinity bias"), CODES.index("affinity locality")
MASK_CELL = 4
"""Pixels of the stride-4 mask along a side of a cell; the value holds them all."""
LOWEST = -60.0
"""Score below the best, from which on weights are equally small."""


@dataclass(frozen=True)
class AffinityConfig(TargetConfig):
    """Options of the affinity; those of every memory method come first.

    Attributes:
        target_model: whether the target model of `ridge` is read as well.
    """

    target_model: bool = False


VARIANTS = {"affinity": AffinityConfig(), "affinity-ridge": AffinityConfig(target_model=True)}


class Affinity(Reader):
    """Keys of a frame and values of its objects at stride 16.

    Args:
        config: its widths.
    """

    def __init__(self, config: TargetConfig) -> None:
        super().__init__()
        self.key_width, value = config.key_width, config.value_width
        self.key = nn.Conv2d(config.width, self.key_width, 1)
        self.log_sharpness = nn.Parameter(torch.tensor(0.0))
        self.mask = nn.Sequential(
            nn.Conv2d(1, 32, 3, 2, 1), nn.GELU(), nn.Conv2d(32, 64, 3, 2, 1), nn.GELU(), nn.Conv2d(64, value, 1)
        )
        self.project = nn.Conv2d(config.width, value, 1)
        self.mix = nn.Sequential(
            nn.Conv2d(value, value, 3, padding=1, groups=value), nn.GELU(), nn.Conv2d(value, value, 1)
        )
        self.query_width = self.key_width
        self.value_width = value + MASK_CELL**2
        self.token_width = self.key_width + self.value_width
        self.out = self.value_width + MASK_CELL**2

    def rows(self, positions: int) -> int:
        """See `Reader.rows`: one for each cell."""
        return positions

    def query(self, coarse: Tensor, eighth: Tensor | None) -> Tensor:
        """See `Reader.query`: keys serve as queries."""
        return tokens_of(self.key(coarse).float())

    def write(self, query: Tensor, coarse: Tensor, mask: Tensor, present: Tensor) -> Tensor:
        """See `Reader.write`: key, value from mask and features, and the mask of each cell."""
        value = self.project(coarse) + self.mask(mask.to(coarse.dtype))
        value = torch.cat([(value + self.mix(value)).float(), F.pixel_unshuffle(mask.float(), MASK_CELL)], 1)
        value = value * present[:, None, None, None]
        return torch.cat([query.expand(len(value), -1, -1), tokens_of(value)], 2)

    def read(self, query: Tensor, rows: Tensor, codes: Tensor, grid: Grid, padded: bool) -> Tensor:
        """See `Reader.read`: a softmax over -sharpness |q - k|^2 - locality |xy_q - xy_k|^2 + bias.

        The newest frame's mask comes along as it is: where an object was counts against those that look like it.
        """
        rows, codes = _first_and_newest(rows, codes, padded)
        keys, values = torch.split(rows, [self.key_width, self.value_width], 3)
        where = _places(grid, query.device)
        sharpness = self.log_sharpness.exp() / self.key_width**0.5
        locality = codes[..., LOCALITY].exp()[..., None, None].expand(-1, -1, len(where), 1)
        spread = (where**2).sum(1, keepdim=True)
        offset = codes[..., BIAS][..., None, None] - sharpness * (keys**2).sum(3, keepdim=True) - locality * spread
        batch = len(rows)
        k = torch.cat([2 * sharpness * keys, 2 * locality * where, -locality, offset], 3).flatten(1, 2)
        q = torch.cat([where, spread, torch.ones_like(spread)], 1).expand(batch, -1, -1)
        q = torch.cat([query.expand(batch, -1, -1), q], 2)
        v = values.flatten(1, 2)
        missing = max(0, v.shape[2] - q.shape[2])
        q, k = (F.pad(x, (0, missing)) for x in (q, k))  # as wide as values, for the fused kernel
        with full_precision(q):
            if torch.compiler.is_exporting():
                read = _limited_softmax(q @ k.mT) @ v
            else:
                read = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], scale=1.0)[:, 0]
        read = torch.cat([read, _newest(values, codes)[..., -(MASK_CELL**2) :]], 2)
        return read.reshape(batch, *grid, -1).permute(0, 3, 1, 2)


def _limited_softmax(scores: Tensor) -> Tensor:
    """Without denormal numbers, most of the weights otherwise, which are slow to multiply on CPUs."""
    return (scores - scores.amax(-1, keepdim=True)).clamp(min=LOWEST).softmax(-1)


def _first_and_newest(rows: Tensor, codes: Tensor, padded: bool) -> tuple[Tensor, Tensor]:
    """The first frame and the last that is not padding; one frame alone stays alone."""
    if rows.shape[1] == 1:
        return rows, codes
    if not padded:
        rows, codes = (torch.stack([x[:, 0], x[:, -1]], 1) for x in (rows, codes))
        return rows, codes
    newest = codes[..., BIAS].isfinite().sum(1) - 1
    at = torch.stack([torch.zeros_like(newest), newest], 1)
    objects = torch.arange(len(rows), device=rows.device)[:, None]
    rows, codes = rows[objects, at], codes[objects, at]
    twice = F.pad((newest == 0)[:, None], (1, 0))[..., None]  # fixed capacity, and a single frame: read it once
    return rows, torch.where(twice & _only(BIAS, codes), -torch.inf, codes)


def _newest(values: Tensor, codes: Tensor) -> Tensor:
    """(B, N, C) values of the newer of at most two frames that are read; one that is read once comes first."""
    if values.shape[1] == 1:
        return values[:, 0]
    return torch.where(codes[:, 1, BIAS].isfinite()[:, None, None], values[:, 1], values[:, 0])


def _only(column: int, codes: Tensor) -> Tensor:
    """True in one column."""
    return torch.arange(codes.shape[-1], device=codes.device) == column


def _places(grid: Grid, device: torch.device) -> Tensor:
    """(N, 2) centred y and x of the cells, in cells."""
    y, x = (torch.arange(side, device=device, dtype=torch.float32) for side in grid)
    return torch.stack(torch.meshgrid(y - y.mean(), x - x.mean(), indexing="ij"), 2).flatten(0, 1)


def build(config: AffinityConfig) -> TargetMemory:
    """An affinity memory, if asked with the target model; untrained."""
    target = ridges(config) if config.target_model else []
    memory = TargetMemory(config, [*target, Affinity(config)])
    with torch.no_grad():
        memory.frame_codes[:, 0, 0, LOCALITY] = -5.0
        memory.frame_codes[0, 0, 0, LOCALITY] = -3.0
    return memory
