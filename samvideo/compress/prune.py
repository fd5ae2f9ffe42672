"""Pruning as SlimSAM does it: cut the residual stream, distil, cut within attention and MLPs, distil."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from samvideo.compress.distil import Guide, Images, Report, Training, distil
from samvideo.compress.slim import Channels, Transformer, find_transformer
from samvideo.compress.slimsam import disturbed_gradients, importance, keep_global, keep_local
from samvideo.encoders.base import ImageEncoder
from samvideo.errors import ConfigError


@dataclass(frozen=True)
class Pruning:
    """What goes.

    Attributes:
        keep: share of every width that stays, more than 0 and less than 1; weights shrink by about its square.
        uneven: within attention and MLPs, all blocks are ranked together, instead of each by itself.
        noise: standard deviation of what is added to feature maps; SlimSAM's.
        images: at most so many decide what matters; SlimSAM's number.
    """

    keep: float = 0.5
    uneven: bool = False
    noise: float = 0.01
    images: int = 1000

    def __post_init__(self) -> None:
        if not 0 < self.keep < 1:
            raise ConfigError(f"keep {self.keep}: a share of more than 0 and less than 1 expected")


class Stage(NamedTuple):
    """An encoder on its way; it is trained on in place."""

    name: str
    encoder: ImageEncoder


def prune(
    teacher: ImageEncoder, images: Images, pruning: Pruning, training: Training, report: Report | None = None
) -> Iterator[Stage]:
    """Cut a copy of an encoder step by step.

    Args:
        teacher: stays as it is.
        images: which decide what matters, and that are learned from.
        pruning: what goes.
        training: half of its steps after each of the two cuts; without any, these are not stages.
        report: of each distillation.

    Yields:
        The copy after each cut and each distillation; the last one is the result.

    Raises:
        ConfigError: the encoder is none that can be cut, or too little of it would be left.
    """
    student = deepcopy(teacher).requires_grad_(True)
    half = replace(training, steps=training.steps // 2)
    found = find_transformer(student)
    _gradients(student, images, pruning, training.seed)
    _keep([(one, _local(one, pruning, one.heads)) for one in found.embedding])
    yield Stage("embedding cut", student)
    if half.steps:
        pairs = [
            pair
            for ours, theirs in zip(found.blocks, find_transformer(teacher).blocks, strict=True)
            for pair in ((ours.attn.qkv, theirs.attn.qkv), (ours.mlp.layers[0], theirs.mlp.layers[0]))
        ]
        distil(student, teacher, images, half, Guide(teacher, pairs), report)
        yield Stage("embedding distilled", student)
    assistant = deepcopy(student)
    _gradients(student, images, pruning, training.seed + 1)
    _keep(_bottlenecks(found, pruning))
    yield Stage("attention and MLPs cut", student)
    if half.steps:
        pairs = list(zip(found.blocks, find_transformer(assistant).blocks, strict=True))
        half = replace(half, seed=training.seed + 1)
        distil(student, teacher, images, half, Guide(assistant, pairs), report)
        yield Stage("distilled", student)


def _gradients(student: ImageEncoder, images: Images, pruning: Pruning, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    device = next(student.parameters()).device

    def disturb(map_: Tensor) -> Tensor:
        return map_ + pruning.noise * torch.randn(map_.shape, generator=generator).to(map_)

    count = min(len(images), pruning.images)
    disturbed_gradients(student, (images[i].to(device) for i in range(count)), disturb)


def _local(channels: Channels, pruning: Pruning, multiple: int) -> Tensor:
    return keep_local(importance(channels), 1 - pruning.keep, channels.heads, multiple)


def _bottlenecks(found: Transformer, pruning: Pruning) -> list[tuple[Channels, Tensor]]:
    """What to keep within attention and MLPs; as published, widths of MLPs are multiples of the heads, too."""
    multiples = [one.heads for one in found.attention]
    if not pruning.uneven:
        groups = zip(found.attention + found.hidden, multiples + multiples, strict=True)
        return [(one, _local(one, pruning, multiple)) for one, multiple in groups]
    kept: list[tuple[Channels, Tensor]] = []
    for heads in sorted({*multiples}):  # which differ between the stages of Hiera
        for of in (found.attention, found.hidden):
            group: Sequence[Channels] = [one for one, m in zip(of, multiples, strict=True) if m == heads]
            scores = [importance(one) for one in group]
            kept += zip(group, keep_global(scores, 1 - pruning.keep, group[0].heads, heads), strict=True)
    return kept


def _keep(kept: Sequence[tuple[Channels, Tensor]]) -> None:
    for channels, stay in kept:
        channels.keep(stay)
