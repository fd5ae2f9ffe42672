"""How long parts of an encoder take on this machine."""

import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from samvideo.compress.slim import find_transformer, mlp_channels
from samvideo.encoders.base import ImageEncoder
from samvideo.nn.mlp import Mlp

WARMUP = 2


def interleaved(works: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Least milliseconds of each of several works, done in turn, so that all see the same state of the machine."""
    best = [float("inf")] * len(works)
    with torch.inference_mode():
        for turn in range(WARMUP + rounds):
            for i, work in enumerate(works):
                begin = time.perf_counter()
                work()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                if turn >= WARMUP:
                    best[i] = min(best[i], 1000 * (time.perf_counter() - begin))
    return best


def encoder_ms(encoders: Sequence[ImageEncoder], image: Tensor, rounds: int) -> list[float]:
    """Milliseconds of whole encoders for one image, measured in turn."""
    return interleaved([lambda encoder=encoder: encoder(image) for encoder in encoders], rounds)  # type: ignore[misc]


@dataclass(frozen=True)
class Latency:
    """Milliseconds of the parts of an encoder.

    Attributes:
        rest: all but the blocks.
        attention: of each block, all but the MLP.
        mlp: of each block, by its hidden width.
    """

    rest: float
    attention: Sequence[float]
    mlp: Sequence[Mapping[int, float]]

    def of(self, hidden: Sequence[int | None]) -> float:
        """An encoder with these hidden widths, None for a block that is left out."""
        return self.rest + sum(
            attention + mlp[width]
            for attention, mlp, width in zip(self.attention, self.mlp, hidden, strict=True)
            if width is not None
        )


def measure_latency(
    encoder: ImageEncoder, image: Tensor, widths: Sequence[Sequence[int]], rounds: int = 8
) -> Latency:
    """Measure the parts of an encoder on an image, in turn.

    Parts with equal layers and inputs are measured once.

    Args:
        encoder: whole.
        image: (1, 3, H, W).
        widths: of the hidden layer of each block.
        rounds: of which the fastest counts.
    """
    blocks = find_transformer(encoder).blocks
    inputs = _inputs([part for block in blocks for part in (block, block.mlp)], encoder, image)
    works: dict[tuple[object, ...], Callable[[], object]] = {(): lambda: encoder(image)}
    wholes, mlps = [], []
    for block, x, y, of in zip(blocks, inputs[::2], inputs[1::2], widths, strict=True):
        like = (tuple(x.shape), tuple(y.shape), block.window, *(tuple(p.shape) for p in block.parameters()))
        works.setdefault(like, lambda block=block, x=x: block(x))  # type: ignore[misc]
        full = block.mlp.layers[0].out_features
        row = {width: (tuple(y.shape), width) for width in {*of, full}}
        for width, key in row.items():
            works.setdefault(key, _mlp(block.mlp, width, y))
        wholes.append(like)
        mlps.append((full, row))
    times = dict(zip(works, interleaved(list(works.values()), rounds), strict=True))
    mlp = [{width: times[key] for width, key in row.items()} for _, row in mlps]
    attention = [max(0.0, times[like] - of[full]) for like, of, (full, _) in zip(wholes, mlp, mlps, strict=True)]
    return Latency(max(0.0, times[()] - sum(times[like] for like in wholes)), attention, mlp)


def _mlp(mlp: Mlp, width: int, x: Tensor) -> Callable[[], Tensor]:
    """Running the MLP with its first hidden units only."""
    narrow = deepcopy(mlp)
    mlp_channels(narrow).keep_first(width)
    return lambda: narrow(x)


def _inputs(modules: Sequence[nn.Module], encoder: ImageEncoder, image: Tensor) -> list[Tensor]:
    """What each module gets while the encoder runs."""
    found: dict[int, Tensor] = {}
    handles = [
        module.register_forward_pre_hook(lambda _, args, i=i: found.update({i: args[0]}))
        for i, module in enumerate(modules)
    ]
    try:
        with torch.no_grad():
            encoder(image)
    finally:
        for handle in handles:
            handle.remove()
    return [found[i] for i in range(len(modules))]
