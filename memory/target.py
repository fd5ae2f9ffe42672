"""Base of memory methods that read maps from memory without attention layers: `ridge`, `affinity`, and both."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samvideo.memory.base import CODE_ROWS
from samvideo.memory.method import MemoryModule, MethodConfig
from samvideo.tensors import Features, Grid, MemoryContext, MemoryTokens

MASK_SCALE = 20.0
"""Masks come scaled from 0..1 to -10..10."""
LOCALITY = "affinity locality"
CODES = ("ridge weight", "affinity bias", LOCALITY)
"""What is learned for each age of a frame, the columns of the temporal code."""
MASK_STRIDE = 4
"""Of the masks that readers see."""


@dataclass(frozen=True)
class TargetConfig(MethodConfig):
    """Options of these methods.

    Attributes:
        ridge_width: of the pixels' embedding of the target model at stride 16; half of it at stride 8.
        key_width, value_width: channels of the keys and values of the affinity.
    """

    ridge_width: int = 96
    key_width: int = 32
    value_width: int = 80

    @property
    def fine_width(self) -> int | None:
        """Channels of the stride-8 map, if there is one."""
        return None if self.fine_widths is None else self.fine_widths[1]


class Reader(nn.Module):
    """One thing that is written into memory and read from it, in float32.

    Attributes:
        query_width: channels of a query, for each cell of the coarse map.
        token_width: values in a row of memory.
        out: channels of the map that is read.
    """

    query_width: int
    token_width: int
    out: int

    def rows(self, positions: int) -> int:
        """Rows of memory that a frame with so many cells takes."""
        raise NotImplementedError

    def query(self, coarse: Tensor, eighth: Tensor | None) -> Tensor:
        """(B, N, query_width) of B frames, from their maps of stride 16 and 8; used for writing as well."""
        raise NotImplementedError

    def write(self, query: Tensor, coarse: Tensor, mask: Tensor, present: Tensor) -> Tensor:
        """(B, rows, token_width): what a frame leaves for B objects.

        Args:
            query, coarse: of the frame, or of B frames.
            mask: (B, 1, 4 h, 4 w) in 0..1.
            present: (B,) whether the object is there.
        """
        raise NotImplementedError

    def read(self, query: Tensor, rows: Tensor, codes: Tensor, grid: Grid, padded: bool) -> Tensor:
        """(B, out, h, w) maps of B objects.

        Args:
            query: of the current frame, or of B frames.
            rows: (B, R, rows, token_width) of R frames, the prompted ones first, the newest last.
            codes: (B, R, len(CODES)) of these frames; the bias of padding is -inf.
            grid: height h and width w.
            padded: whether there may be padding after the newest frame.
        """
        raise NotImplementedError


class TargetMemory(MemoryModule):
    """Writes and reads by several readers, and adds what they read to the features.

    Args:
        config: options.
        readers: in the order of their rows in memory; one whose rows depend on the frame's size comes last.
    """

    step = 16
    mergeable = False  # rows are keys, values and labels side by side, and belong together

    def __init__(self, config: TargetConfig, readers: Sequence[Reader]) -> None:
        super().__init__()
        self.readers = nn.ModuleList(readers)
        self.frame_codes = nn.Parameter(torch.zeros(CODE_ROWS, 1, 1, len(CODES)))
        self.no_memory = nn.Parameter(torch.zeros(1, 1, config.width))
        self.fuse = nn.Sequential(
            nn.Conv2d(sum(r.out for r in readers), config.width, 1),
            nn.GELU(),
            nn.Conv2d(config.width, config.width, 1),
        )
        self.token_width = max(r.token_width for r in readers)

    def self_attend(self, features: Features) -> Tensor:
        """(B, N, C): the queries of all readers, which are the same for all objects."""
        eighth = features.fine[1] if features.fine else None
        return torch.cat([reader.query(features.coarse, eighth) for reader in self._readers()], 2)

    def encode(self, features: Features, masks: Tensor, present: Tensor) -> MemoryTokens:
        """See `MemoryModule.encode`."""
        tokens = self.write(features, F.avg_pool2d(masks / MASK_SCALE + 0.5, MASK_STRIDE), present)
        return MemoryTokens(tokens, tokens.new_zeros(1, 1, len(CODES)), tokens.shape[1], features.grid)

    def write(self, features: Features, mask: Tensor, present: Tensor) -> Tensor:
        """(B, rows, token_width) memory of (B, 1, 4 h, 4 w) masks in 0..1 and (B,) presence."""
        written = []
        for reader, query in zip(self._readers(), self._queries(features), strict=True):
            rows = reader.write(query, features.coarse, mask, present)
            written.append(F.pad(rows, (0, self.token_width - rows.shape[2])))
        return torch.cat(written, 1)

    def attend(self, features: Features, context: MemoryContext) -> Tensor:
        """See `MemoryModule.attend`."""
        return self.condition(features, self.read(features, context))

    def condition(self, features: Features, reads: Sequence[Tensor]) -> Tensor:
        """(B, C, h, w): features of the frame and what was read."""
        return features.coarse + self.fuse(torch.cat(list(reads), 1).to(features.coarse.dtype))

    def read(self, features: Features, context: MemoryContext) -> list[Tensor]:
        """The map (B, out, h, w) that each reader reads. Factors on keys are weights of frames here."""
        codes = context.position[:, :, 0].float()
        if context.frame_scale is not None:
            weights = torch.tensor([name != LOCALITY for name in CODES], device=codes.device)
            codes = codes + context.frame_scale.log()[..., None] * weights
        if context.frame_mask is not None:
            codes = codes.masked_fill(~context.frame_mask[..., None], -torch.inf)
        maps, begin = [], 0
        for reader, query in zip(self._readers(), self._queries(features), strict=True):
            count = reader.rows(_positions(features))
            rows = context.features[:, :, begin : begin + count, : reader.token_width].float()
            maps.append(reader.read(query, rows, codes, features.grid, context.frame_mask is not None))
            begin += count
        return maps

    def without_memory(self, features: Features) -> Tensor:
        """See `MemoryModule.without_memory`."""
        return features.coarse + self.no_memory.transpose(1, 2)[..., None]

    def _readers(self) -> list[Reader]:
        return [reader for reader in self.readers if isinstance(reader, Reader)]

    def _queries(self, features: Features) -> Sequence[Tensor]:
        assert features.self_attended is not None
        return torch.split(features.self_attended, [reader.query_width for reader in self._readers()], 2)


def tokens_of(map_bchw: Tensor, cell: int = 1) -> Tensor:
    """(B, C, cell h, cell w) to (B, h w, cell^2 C), the pixels of a cell one after the other."""
    batch, channels, height, width = map_bchw.shape
    cells = map_bchw.reshape(batch, channels, height // cell, cell, width // cell, cell)
    return cells.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, cell * cell * channels)


def full_precision(like: Tensor) -> torch.autocast:
    """No autocast: sums over all pixels and the solution of linear equations need float32."""
    return torch.autocast(like.device.type, enabled=False)


def _positions(features: Features) -> int:
    return features.grid[0] * features.grid[1]
