"""SlimSAM's pruning (Chen et al. 2023): channels that matter least by the disturbed Taylor importance go.

First the width of the whole encoder is cut, then the widths within attention and MLPs, each after gradients of its
own. Counterpart: czg1225/SlimSAM.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samvideo.encoders.sam_vit import SamVit
from samvideo.errors import ConfigError
from samvideo.nn.windows import RelativeAttention

EPS = 1e-8
"""Added to the deviation of scores, as published."""


def disturbed_gradients(
    student: nn.Module, images: Iterable[Tensor], noise: Iterable[Tensor], teacher: nn.Module | None = None
) -> None:
    """Add up gradients of the student's weights, image by image, for an embedding that noise was added to.

    The noise makes them non-zero where both are the same model.

    Args:
        student: from an image to its embedding.
        images: inputs of the model.
        noise: for each, of the shape of the embedding; published: standard deviation 0.01.
        teacher: whose embedding is disturbed; the student when None.
    """
    student.zero_grad()
    for image, disturbance in zip(images, noise, strict=True):
        embedding = student(image)
        # the student's own one is not computed again: other kernels would differ by a hundredth of the noise
        undisturbed = embedding if teacher is None else teacher(image)
        F.mse_loss(embedding, undisturbed.detach() + disturbance).backward()  # type: ignore[no-untyped-call]


def taylor(weight: Tensor) -> Tensor:
    """|w · dw| of each weight, (outputs, inputs, everything else summed)."""
    if weight.grad is None:
        raise ConfigError("a weight has no gradient: run disturbed_gradients on the same model first")
    return (weight * weight.grad).detach().abs().reshape(*weight.shape[:2], -1).sum(2)


def coupled(rows: Iterable[Tensor], columns: Iterable[Tensor], heads: int) -> Tensor:
    """Importance of channels that go together, since one layer's outputs are another's inputs: (channels / heads,).

    The mean over layers of sums over rows or columns, summed over the heads, which all lose the same positions.

    Args:
        rows: `taylor` of weights whose outputs are the channels.
        columns: of those whose inputs they are.
        heads: chunks of the channels.
    """
    scores = [*(w.sum(1) for w in rows), *(w.sum(0) for w in columns)]
    return torch.stack(scores).mean(0).view(heads, -1).sum(0)


def embedding_importance(encoder: SamVit) -> Tensor:
    """Of the width of the whole encoder, in as many chunks as attention has heads, as published."""
    rows, columns = [taylor(encoder.patch_embed.proj.weight)], [taylor(encoder.neck[0].weight)]  # type: ignore[arg-type]
    for block in _blocks(encoder):
        first, second = block.mlp.layers
        rows += [taylor(block.attn.proj.weight), taylor(second.weight)]
        columns += [*taylor(block.attn.qkv.weight).chunk(3), taylor(first.weight)]
    return coupled(rows, columns, _blocks(encoder)[0].attn.heads)


def attention_importance(block: Any) -> Tensor:
    """Of the width within a block's attention, by place in the head."""
    attn = block.attn
    return coupled(taylor(attn.qkv.weight).chunk(3), [taylor(attn.proj.weight)], attn.heads)


def hidden_importance(block: Any) -> Tensor:
    """Of the units of a block's MLP."""
    first, second = block.mlp.layers
    return coupled([taylor(first.weight)], [taylor(second.weight)], 1)


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
        stays = torch.ones(len(level), dtype=torch.bool)
        stays[goes[: len(goes) - surplus]] = False
        kept.append(in_heads(stays.nonzero()[:, 0], len(level), heads))
    return kept


def standardised(scores: Tensor, heads: int) -> Tensor:
    """With mean 0 and deviation 1, unbiased, of the scores repeated for each head."""
    return (scores - scores.mean()) / (scores.repeat(heads).std() + EPS)


def in_heads(places: Tensor, width: int, heads: int) -> Tensor:
    """The same places in each head of a width, ascending."""
    return (places.sort().values + width * torch.arange(heads)[:, None]).flatten()


def keep_embedding(encoder: SamVit, kept: Tensor) -> None:
    """Keep these channels of the whole encoder, in place; relative positions become zeros."""
    _select(encoder.patch_embed.proj, rows=kept)
    encoder.pos_embed = nn.Parameter(encoder.pos_embed.detach()[..., kept])
    for block in _blocks(encoder):
        for norm in (block.norm1, block.norm2):
            norm.weight, norm.bias = (nn.Parameter(p.detach()[kept]) for p in (norm.weight, norm.bias))
            norm.normalized_shape = (len(kept),)
        first, second = block.mlp.layers
        _select(first, columns=kept)
        _select(second, rows=kept)
        _select(block.attn.qkv, columns=kept)
        _select(block.attn.proj, rows=kept)
    _select(encoder.neck[0], columns=kept)
    for block in _blocks(encoder):
        keep_attention(block, torch.arange(block.attn.proj.weight.shape[1]))


def keep_attention(block: Any, kept: Tensor) -> None:
    """Keep these channels within a block's attention, as many of each head, in place.

    Relative positions become zeros, as published.
    """
    attn = block.attn
    width = attn.proj.weight.shape[1]
    _select(attn.qkv, rows=torch.cat([kept + i * width for i in range(3)]))
    _select(attn.proj, columns=kept)
    if isinstance(attn, RelativeAttention):
        for table in ("rel_pos_h", "rel_pos_w"):
            setattr(attn, table, nn.Parameter(torch.zeros(len(getattr(attn, table)), len(kept) // attn.heads)))


def _blocks(encoder: SamVit) -> list[Any]:
    """`Block`s, whose parts are known to have layers of certain classes."""
    return list(encoder.blocks)


def _select(layer: nn.Module, rows: Tensor | None = None, columns: Tensor | None = None) -> None:
    """Keep outputs and inputs of a linear layer or convolution."""
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    weight = layer.weight.detach()
    if rows is not None:
        weight = weight[rows]
        if layer.bias is not None:
            layer.bias = nn.Parameter(layer.bias.detach()[rows])
    if columns is not None:
        weight = weight[:, columns]
    layer.weight = nn.Parameter(weight)
    names = ("out_features", "in_features") if isinstance(layer, nn.Linear) else ("out_channels", "in_channels")
    for name, size in zip(names, weight.shape[:2], strict=True):
        setattr(layer, name, size)
