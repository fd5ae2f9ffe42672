"""SuperSAM's reordered MLPs: units that matter most come first, so that a narrower MLP is a slice of the wide one.

Counterpart: pnnl/SuperSAM. Scores are those of Wanda (Sun et al. 2023).
"""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from samvideo.compress.slim import mlp_channels
from samvideo.nn.mlp import Mlp


def wanda_scores(mlps: Mapping[str, Mlp], runs: Iterable[Callable[[], object]]) -> dict[str, Tensor]:
    """How much each hidden unit matters: its weights times the norms of what they multiply.

    (Σ |row of the first layer| · ‖input‖ + Σ |column of the second| · ‖unit‖) / 2, where norms are over a batch and
    scores are averaged over batches.

    Args:
        mlps: of two layers, part of a model.
        runs: each runs the model on a batch.

    Returns:
        By name, (hidden,).
    """
    totals = {name: _layers(name, mlp)[0].weight.new_zeros(mlp_channels(mlp).width) for name, mlp in mlps.items()}
    halves = [(name, layer, i) for name, mlp in mlps.items() for i, layer in enumerate(_layers(name, mlp))]

    def add(name: str, layer: nn.Linear | nn.Conv2d, second: int, x: Tensor) -> None:
        weighted = layer.weight.detach().abs() * x.detach().flatten(0, -2).norm(dim=0)
        totals[name] += weighted.sum(0 if second else 1) / 2

    handles = [
        layer.register_forward_pre_hook(lambda _, args, name=name, layer=layer, i=i: add(name, layer, i, args[0]))
        for name, layer, i in halves
    ]
    count = 0
    try:
        with torch.no_grad():
            for run in runs:
                run()
                count += 1
    finally:
        for handle in handles:
            handle.remove()
    return {name: total / max(1, count) for name, total in totals.items()}


def magnitude_scores(mlp: Mlp) -> Tensor:
    """(hidden,): half the sum of the weights of each unit, with their signs as published."""
    first, second = _layers("the MLP", mlp)
    return (first.weight.sum(1) + second.weight.sum(0)).detach() / 2


def order_of(scores: Tensor) -> Tensor:
    """Units by falling score."""
    return scores.argsort(descending=True)


def _layers(name: str, mlp: Mlp) -> list[nn.Linear | nn.Conv2d]:
    return [part.layer for part in mlp_channels(mlp, name).parts]
