"""Narrower and shallower vision transformers: which channels and blocks can be cut out of an encoder, and cutting.

Widths are those of the residual stream (one, or one per stage), within the attention of each block, and of the
hidden layer of each MLP; blocks may differ. The encoder is changed in place and then really is smaller.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, JsonValue, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from samvideo.compress.saved import Operation, Recipe, recipe_of, save_compressed
from samvideo.encoders.base import ImageEncoder
from samvideo.encoders.sam_vit import SamVit
from samvideo.encoders.vit import PlainVit
from samvideo.errors import ConfigError
from samvideo.image_model import ImageModel
from samvideo.nn.mlp import Mlp
from samvideo.nn.windows import WindowAttention

OPERATION = "slim"
"""Name in the recipes of compressed models."""
QKV = 3
"""Queries, keys and values are the outputs of one layer."""


class Part(NamedTuple):
    """Channels as outputs or inputs of a layer.

    Attributes:
        layer: linear, or a convolution.
        axis: 0 for outputs, 1 for inputs.
        stacked: so many layers stand for themselves, one below the other.
    """

    layer: nn.Linear | nn.Conv2d
    axis: int
    stacked: int = 1

    @property
    def width(self) -> int:
        """Number of channels."""
        size: int = self.layer.weight.shape[self.axis]
        return size if self.axis else size // self.stacked

    def keep(self, kept: Tensor) -> None:
        """Keep these channels, in this order."""
        layer, width = self.layer, self.width
        if self.axis == 0:
            kept = torch.cat([kept + i * width for i in range(self.stacked)])
            if layer.bias is not None:
                layer.bias = nn.Parameter(layer.bias.detach()[kept])
        layer.weight = nn.Parameter(layer.weight.detach().index_select(self.axis, kept))
        names = ("out_features", "in_features") if isinstance(layer, nn.Linear) else ("out_channels", "in_channels")
        setattr(layer, names[self.axis], len(kept))


class Table(NamedTuple):
    """A parameter, other than of a layer, that has the channels, or those of one head, along an axis."""

    module: nn.Module
    name: str
    axis: int

    @property
    def value(self) -> Tensor:
        """The parameter."""
        value: Tensor = getattr(self.module, self.name)
        return value.detach()

    def keep(self, kept: Tensor) -> None:
        """Keep these channels, in this order."""
        setattr(self.module, self.name, nn.Parameter(self.value.index_select(self.axis, kept)))
        if isinstance(self.module, nn.LayerNorm):
            self.module.normalized_shape = (len(kept),)


@dataclass(frozen=True, eq=False)
class Channels:
    """Channels that are cut together, as the outputs of some layers are the inputs of others.

    Attributes:
        parts: the layers.
        heads: chunks of the channels that keep the same places.
        tables: other parameters that have them.
        attention: whose queries and keys they are, if any.
    """

    parts: tuple[Part, ...]
    heads: int = 1
    tables: tuple[Table, ...] = ()
    attention: WindowAttention | None = None

    @property
    def width(self) -> int:
        """Their number."""
        return self.parts[0].width

    def keep(self, kept: Tensor) -> None:
        """Keep these channels, in this order, as many of each head.

        Attention divides scores by the square root of the width of a head, which shrinks: queries make up for it.
        """
        width, kept = self.width, kept.to(self.parts[0].layer.weight.device)
        places = kept[: len(kept) // self.heads]
        for part in self.parts:
            part.keep(kept)
        for table in self.tables:
            table.keep(kept if table.value.shape[table.axis] == width else places)
        if self.attention is not None:
            factor = (len(kept) / width) ** 0.5
            qkv = self.attention.qkv
            with torch.no_grad():
                qkv.weight[: len(kept)] *= factor
                qkv.bias[: len(kept)] *= factor
                for table in self.tables:  # of relative positions, which the queries meet without that division
                    getattr(table.module, table.name).div_(factor)

    def keep_first(self, width: int) -> None:
        """Keep the first ones, as many of each head; ConfigError for a width that is none."""
        if not 0 < width <= self.width or width % self.heads:
            raise ConfigError(
                f"width {width}: a multiple of {self.heads} from {self.heads} to {self.width} expected"
            )
        self.keep(in_heads(torch.arange(width // self.heads), self.width // self.heads, self.heads))


def in_heads(places: Tensor, width: int, heads: int) -> Tensor:
    """The same places in each head of a width, ascending."""
    return (places.sort().values + width * torch.arange(heads, device=places.device)[:, None]).flatten()


@dataclass(frozen=True, eq=False)
class Transformer:
    """What can be cut of an encoder.

    Attributes:
        trunk: has the blocks as `blocks`.
        embedding: the residual stream of each stage.
        attention: for each block, within its attention.
        hidden: for each block, within its MLP.
        fixed: indices of blocks that cannot be left out.
    """

    trunk: Any
    embedding: list[Channels]
    attention: list[Channels]
    hidden: list[Channels]
    fixed: frozenset[int]

    @property
    def blocks(self) -> list[Any]:
        """The blocks, whose parts are known to have layers of certain classes."""
        return list(self.trunk.blocks)

    def leave_blocks(self, kept: Sequence[int]) -> None:
        """Keep these blocks only; what was found in the encoder before is then out of date."""
        count = len(self.blocks)
        if sorted({*kept}) != list(kept) or not self.fixed <= {*kept} <= {*range(count)}:
            raise ConfigError(
                f"blocks {list(kept)}: ascending numbers below {count}, {sorted(self.fixed)} among them, expected"
            )
        blocks = self.blocks
        self.trunk.blocks = nn.ModuleList(blocks[i] for i in kept)
        if hasattr(self.trunk, "ends"):  # of the stages
            self.trunk.ends = [sum(i <= end for i in kept) - 1 for end in self.trunk.ends]


def find_transformer(encoder: ImageEncoder) -> Transformer:
    """What can be cut of an encoder.

    Raises:
        ConfigError: it is not a plain ViT, SAM's ViT or Hiera.
    """
    if isinstance(encoder, PlainVit):
        return _column(encoder.trunk, encoder.neck.convs[0].conv_1x1)
    if isinstance(encoder, SamVit) and all(isinstance(block.attn, WindowAttention) for block in encoder.blocks):
        return _column(encoder, encoder.neck[0])
    from samvideo.encoders.hiera import Hiera  # late: it imports timm, which the others do without

    if isinstance(encoder, Hiera):
        return _stages(encoder)
    raise ConfigError(
        f"encoder {type(encoder).__name__} has no transformer blocks that can be cut: a plain ViT (efficienttam-*, "
        "efficientsam-*), SAM's ViT (sam-vit-*, slimsam-*) or Hiera (sam2*) expected"
    )


def _column(trunk: Any, exit_layer: Any) -> Transformer:
    """Of equal blocks with one residual stream."""
    blocks = list(trunk.blocks)
    stream = _stream(Part(trunk.patch_embed.proj, 0), blocks, blocks, exit_layer, (Table(trunk, "pos_embed", -1),))
    return Transformer(trunk, [stream], *_within(blocks), frozenset({0}))


def _stages(encoder: Any) -> Transformer:
    """Of blocks in stages; the first block of each but the first stage reads from the stream before."""
    trunk: Any = encoder.trunk
    blocks = list(trunk.blocks)
    begins = [0, *(end + 1 for end in trunk.ends)]
    streams = []
    for stage, (begin, end) in enumerate(pairwise(begins)):
        entry = Part(blocks[begin].proj if stage else trunk.patch_embed.proj, 0)
        readers = blocks[begin + (stage > 0) : end + 1]
        tables = () if stage else tuple(Table(trunk, name, 1) for name in ("pos_embed", "pos_embed_window"))
        lateral = encoder.neck.convs[len(trunk.ends) - 1 - stage]  # coarsest first
        streams.append(_stream(entry, blocks[begin:end], readers, lateral.conv, tables))
    return Transformer(trunk, streams, *_within(blocks), frozenset(begins[:-1]))


def _stream(
    entry: Part, writers: Sequence[Any], readers: Iterable[Any], exit_layer: Any, tables: tuple[Table, ...]
) -> Channels:
    """The residual stream that blocks add to, and whose attention and shortcuts read it."""
    parts = [entry, Part(exit_layer, 1)]
    norms = []
    for block in writers:
        first, second = block.mlp.layers
        parts += [Part(block.attn.proj, 0), Part(first, 1), Part(second, 0)]
        norms.append(block.norm2)
    for block in readers:
        parts.append(Part(block.attn.qkv, 1, QKV))
        parts += [Part(block.proj, 1)] if hasattr(block, "proj") else []
        norms.append(block.norm1)
    affine = tuple(Table(norm, name, 0) for norm in norms for name in ("weight", "bias"))
    return Channels(tuple(parts), writers[0].attn.heads, tables + affine)


def _within(blocks: Sequence[Any]) -> tuple[list[Channels], list[Channels]]:
    return [_attention(block.attn) for block in blocks], [mlp_channels(block.mlp) for block in blocks]


def _attention(attn: Any) -> Channels:
    tables = tuple(Table(attn, name, 1) for name in ("rel_pos_h", "rel_pos_w") if hasattr(attn, name))
    return Channels((Part(attn.qkv, 0, QKV), Part(attn.proj, 1)), attn.heads, tables, attn)


def mlp_channels(mlp: Mlp, name: str = "the MLP") -> Channels:
    """The hidden units; ConfigError unless there are two layers."""
    if len(mlp.layers) != 2:
        raise ConfigError(f"{name} has {len(mlp.layers)} layers: two expected")
    first, second = mlp.layers
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    return Channels((Part(first, 0), Part(second, 1)))


class Slim(BaseModel):
    """What is left of an encoder: parameters of the operation `slim` of compressed models.

    Attributes:
        blocks: those that stay, numbered before any goes.
        embedding: widths of the residual streams.
        attention, hidden: widths within the blocks that stay.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    blocks: list[NonNegativeInt]
    embedding: list[PositiveInt]
    attention: list[PositiveInt]
    hidden: list[PositiveInt]

    def cut(self, encoder: ImageEncoder) -> None:
        """Leave so much of an encoder, whatever it is that goes: for weights that are loaded next."""
        find_transformer(encoder).leave_blocks(self.blocks)
        found = find_transformer(encoder)
        for channels, widths in (
            (found.embedding, self.embedding),
            (found.attention, self.attention),
            (found.hidden, self.hidden),
        ):
            for one, width in zip(channels, widths, strict=True):
                one.keep_first(width)


def left_of(encoder: ImageEncoder, blocks: Sequence[int] | None = None) -> Slim:
    """What is left of an encoder after cutting; `blocks`: those that stayed, all when None."""
    found = find_transformer(encoder)
    return Slim(
        blocks=list(range(len(found.blocks)) if blocks is None else blocks),
        embedding=[one.width for one in found.embedding],
        attention=[one.width for one in found.attention],
        hidden=[one.width for one in found.hidden],
    )


def restore(model: Any, parameters: Mapping[str, JsonValue], tensors: Mapping[str, Tensor]) -> None:
    """See `samvideo.compress.saved.Restore`."""
    Slim.model_validate(parameters).cut(model.encoder)


def save_slim(path: Path, model: ImageModel, source: Path | None, slim: Slim) -> None:
    """Write a model whose encoder was cut.

    Args:
        path: ends in .safetensors.
        model: after cutting.
        source: the file that it was read from before, if any.
        slim: what is left.

    Raises:
        OutputError: it cannot be written.
    """
    recipe = check_source(source) or Recipe(model=model.name, operations=[])
    operation = Operation(name=OPERATION, parameters=slim.model_dump())
    save_compressed(path, model, recipe.model_copy(update={"operations": [*recipe.operations, operation]}))


def check_source(source: Path | None) -> Recipe | None:
    """The recipe of what is to be cut, None for a model as published; ConfigError if it was quantised."""
    recipe = recipe_of(source)
    if recipe is not None and (others := [x.name for x in recipe.operations if x.name != OPERATION]):
        raise ConfigError(f"{source} was compressed by {others[0]}: cut the model before that, not after it")
    return recipe
