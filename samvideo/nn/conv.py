"""Convolutions with batch normalisation, and folding for inference."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class ConvNorm(nn.Sequential):
    """A convolution, by default without bias, and its batch norm; odd kernels keep the size at stride 1."""

    c: nn.Conv2d
    bn: nn.BatchNorm2d

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, bias: bool = False
    ) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)
        super().__init__(OrderedDict(c=conv, bn=nn.BatchNorm2d(outputs)))

    def fuse(self) -> nn.Conv2d:
        """Both as one convolution."""
        return fuse_conv_bn_eval(self.c, self.bn)


def fuse_children(module: nn.Module) -> None:
    """Replace all modules below that have `fuse()`, ours and timm's, by what it returns."""
    for name, child in module.named_children():
        fuse: Any = getattr(child, "fuse", None)
        if fuse is not None:
            child = fuse()
            setattr(module, name, child)
        fuse_children(child)


def fold_norms(module: nn.Module, change: Callable[[nn.Conv2d], nn.Conv2d] = lambda conv: conv) -> None:
    """Fold each batch norm into the convolution registered before it; timm keeps to the order of use.

    Args:
        module: in evaluation mode, changed in place; an activation that belongs to a norm is kept.
        change: of the folded convolutions.
    """
    conv: tuple[str, nn.Conv2d] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv2d):
            conv = name, child
        elif isinstance(child, nn.BatchNorm2d) and conv is not None:
            setattr(module, conv[0], change(fuse_conv_bn_eval(conv[1], child)))
            setattr(module, name, getattr(child, "act", nn.Identity()))
        else:
            fold_norms(child, change)


@torch.no_grad()
def joined(first: nn.Conv2d, second: nn.Conv2d) -> nn.Conv2d:
    """Two 1x1 convolutions as one: B (A x + a) + b = (B A) x + (B a + b).

    In double precision on the way, on the CPU, since MPS has none.
    """
    a, b = (conv.weight.flatten(1).cpu().double() for conv in (first, second))
    bias = b.new_zeros(len(b)) if first.bias is None else b @ first.bias.cpu().double()
    bias = bias if second.bias is None else bias + second.bias.cpu().double()
    has_bias = first.bias is not None or second.bias is not None
    out = nn.Conv2d(first.in_channels, second.out_channels, 1, bias=has_bias, device=first.weight.device)
    out.weight.copy_((b @ a).float()[..., None, None])
    if out.bias is not None:
        out.bias.copy_(bias.float())
    return out
