"""SlimSAM's pruning (Chen et al. 2023): channels that matter least by the disturbed Taylor importance go.

First the width of the whole encoder is cut, then the widths within attention and MLPs, each after gradients of its
own. Counterpart: czg1225/SlimSAM; other than there, tables of relative positions are cut as the queries they are
multiplied with instead of being replaced by zeros.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from samvideo.compress.distil import maps_of
from samvideo.compress.slim import Channels, in_heads
from samvideo.encoders.base import ImageEncoder
from samvideo.errors import ConfigError

EPS = 1e-8
"""Added to the deviation of scores, as published."""


def disturbed_gradients(
    student: ImageEncoder,
    images: Iterable[Tensor],
    disturb: Callable[[Tensor], Tensor],
    teacher: ImageEncoder | None = None,
) -> None:
    """Add up gradients of the student's weights, image by image, for feature maps that noise was added to.

    The noise makes them non-zero where both are the same model.

    Args:
        student: to be pruned.
        images: inputs, (B, 3, H, W).
        disturb: adds noise to a map; published: of standard deviation 0.01.
        teacher: whose maps are disturbed; the student when None.
    """
    student.zero_grad()
    for image in images:
        maps = maps_of(student, image)
        # the student's own ones are not computed again: other kernels would differ by a hundredth of the noise
        with torch.no_grad():
            undisturbed = maps if teacher is None else maps_of(teacher, image)
        wanted = [disturb(one.detach()) for one in undisturbed]
        losses = [F.mse_loss(a, b) for a, b in zip(maps, wanted, strict=True)]
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]


def taylor(weight: Tensor) -> Tensor:
    """|w · dw| of each weight, (outputs, inputs, everything else summed)."""
    if weight.grad is None:
        raise ConfigError("a weight has no gradient: run disturbed_gradients on the same model first")
    return (weight * weight.grad).detach().abs().reshape(*weight.shape[:2], -1).sum(2)


def importance(channels: Channels) -> Tensor:
    """Of channels that are cut together: (channels / heads,).

    The mean over layers of sums over rows or columns, summed over the heads, which all lose the same places.
    """
    scores = [
        weight.sum(1 - part.axis)
        for part in channels.parts
        for weight in taylor(part.layer.weight).chunk(part.stacked)
    ]
    return torch.stack(scores).mean(0).view(channels.heads, -1).sum(0)


def kept_width(channels: int, ratio: float, heads: int) -> int:
    """Channels that are left when a ratio goes, a multiple of the heads."""
    if not 0 <= ratio < 1:
        raise ConfigError(f"ratio {ratio}: from 0 to less than 1 expected")
    kept = channels - int(channels * ratio)
    if kept < heads:
        raise ConfigError(
            f"ratio {ratio} leaves {kept} of {channels} channels to {heads} heads: choose a smaller one"
        )
    return kept - kept % heads


def keep_local(scores: Tensor, ratio: float, heads: int, multiple: int) -> Tensor:
    """The channels that stay when one group loses a ratio, ascending.

    Args:
        scores: (channels / heads,).
        ratio: share of the channels that go.
        heads: chunks that lose the same positions.
        multiple: of which the number of channels that stay is one.
    """
    width = kept_width(len(scores) * heads, ratio, multiple)
    best = scores.topk(width // heads).indices
    return in_heads(best, len(scores), heads)


def keep_global(scores: Sequence[Tensor], ratio: float, heads: int, multiple: int) -> list[Tensor]:
    """The channels that stay in each of several groups that are ranked together, once standardised.

    The deviation is that of the scores as repeated for the heads. The number of channels that go is rounded down to
    the multiple, sparing the last ones.

    Args:
        scores: of each group, (channels / heads,).
        ratio, heads, multiple: see `keep_local`.
    """
    levels = [standardised(s, heads) for s in scores]
    ranked = torch.cat(levels).sort().values
    threshold = ranked[len(ranked) - int(len(ranked) * (1 - ratio)) - 1]
    kept = []
    for level in levels:
        goes = (level <= threshold).nonzero()[:, 0]
        surplus = len(goes) * heads % multiple // heads
        stays = torch.ones(len(level), dtype=torch.bool, device=level.device)
        stays[goes[: len(goes) - surplus]] = False
        stays[level.topk(multiple // heads).indices] = True  # not published: a group is never left without any
        kept.append(in_heads(stays.nonzero()[:, 0], len(level), heads))
    return kept


def standardised(scores: Tensor, heads: int) -> Tensor:
    """With mean 0 and deviation 1, unbiased, of the scores repeated for each head."""
    return (scores - scores.mean()) / (scores.repeat(heads).std() + EPS)
