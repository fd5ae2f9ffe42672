"""Batch norms folded into the convolutions before them, for inference."""

import torch
from torch import nn


@torch.no_grad()
def fold_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """One convolution that does what both do with the stored statistics; in double precision on the way."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = 0 if conv.bias is None else conv.bias.double()
    conv.weight.copy_(conv.weight * scale[:, None, None, None])
    shift = (bias - norm.running_mean) * scale + norm.bias
    conv.bias = nn.Parameter(shift.to(conv.weight.dtype), requires_grad=conv.weight.requires_grad)
    return conv
