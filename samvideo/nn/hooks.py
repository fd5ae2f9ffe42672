"""Layers whose calls are watched."""

from torch import nn


def is_hooked(layer: nn.Module) -> bool:
    """Whether the input of a layer is watched or changed, as by quantisation.

    Code that merges layers to save time calls them one by one then.
    """
    return bool(layer._forward_pre_hooks)
