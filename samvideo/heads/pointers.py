"""Object pointers: one vector that identifies an object on a frame (Ravi et al. 2024, section 4).

Counterpart: facebookresearch/sam2: sam2/modeling/sam2_base.py, _forward_sam_heads and _use_mask_as_output.
"""

import torch
from torch import Tensor, nn

from samvideo.nn.mlp import Mlp
from samvideo.nn.position import sine_time

SPAN = 15
"""Pointers of this many earlier frames are used; also the unit of their time code."""


class PointerHead(nn.Module):
    """Makes pointers from output tokens, and the time code of pointers.

    Args:
        timed: whether pointers carry a code of their age (SAM 2.1).
        width: channels of a pointer.
        memory_width: channels of a memory token; a pointer is split into width / memory_width of them.
    """

    def __init__(self, timed: bool, width: int = 256, memory_width: int = 64) -> None:
        super().__init__()
        self.width, self.memory_width = width, memory_width
        self.mask_downsample = nn.Conv2d(1, 1, 4, stride=4)
        self.obj_ptr_proj = Mlp(width, width, width, width)
        self.obj_ptr_tpos_proj = nn.Linear(width, memory_width) if timed else None
        self.no_obj_ptr = nn.Parameter(torch.zeros(1, width))

    def forward(self, token: Tensor, present: Tensor) -> Tensor:
        """(B, width) output token and (B,) bool to (B, width) pointer."""
        return self.where_present(self.obj_ptr_proj(token), present)

    def where_present(self, pointer: Tensor, present: Tensor) -> Tensor:
        """The pointer, or the learned one of an absent object."""
        return torch.where(present[:, None], pointer, self.no_obj_ptr)

    def tokens(self, pointers: Tensor) -> Tensor:
        """(B, P, width) to (B, P * width / memory_width, memory_width)."""
        return pointers.reshape(pointers.shape[0], -1, self.memory_width)

    def age_code(self, ages: Tensor, span: int = SPAN) -> Tensor:
        """Time code of the tokens of pointers that are `ages` (B, P) frames old, in units of `span` frames."""
        if self.obj_ptr_tpos_proj is None:
            code = self.no_obj_ptr.new_zeros((*ages.shape, self.memory_width))
        else:
            weight = self.obj_ptr_tpos_proj.weight
            code = self.obj_ptr_tpos_proj(sine_time(ages / span, self.width).to(weight.dtype))
        return code.repeat_interleave(self.width // self.memory_width, 1)
