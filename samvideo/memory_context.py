"""Batches the selected memories of several objects for memory attention, padded to a fixed capacity if requested."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from samvideo.errors import ConfigError
from samvideo.heads.pointers import PointerHead
from samvideo.memory.method import MemoryMethod
from samvideo.runtime import MemoryFrame, MemoryPointer, SelectedMemory
from samvideo.tensors import MemoryContext, MemoryTokens

Slot = MemoryFrame | MemoryPointer


def memory_context(
    method: MemoryMethod,
    head: PointerHead,
    memories: Sequence[SelectedMemory],
    span: int,
    capacity: tuple[int, int] | None,
) -> MemoryContext:
    """Batch memories that have at least one frame each.

    Args:
        method: whose temporal code is used.
        head: makes tokens and the time code of pointers.
        memories: of B objects, of equal shapes unless there is a capacity.
        span: unit of the pointers' time code, in frames.
        capacity: pad to so many frames and pointers and mask the padding, so that all contexts have one shape.

    Raises:
        ConfigError: a memory exceeds the capacity.
    """
    frames, pointers = [m.frames for m in memories], [m.pointers for m in memories]
    num_frames, num_pointers = capacity or memories[0].shape
    if max(map(len, frames)) > num_frames or max(map(len, pointers)) > num_pointers:
        raise ConfigError(f"memories of shapes {[m.shape for m in memories]} exceed the capacity {capacity}")
    device, dtype = method.no_memory.device, method.no_memory.dtype
    sample: MemoryTokens = frames[0][0].tokens

    def upload(values: Tensor) -> Tensor:
        return values.to(device, non_blocking=True)  # a GPU's queue is not waited for

    def table(rows: Sequence[Sequence[Slot]], size: int, value: Callable[[Slot], float]) -> Tensor:
        return torch.tensor([[value(slot) for slot in row] + [0.0] * (size - len(row)) for row in rows])

    def scale(rows: Sequence[Sequence[Slot]], size: int) -> Tensor | None:
        if all(slot.key_scale == 1 for row in rows for slot in row):
            return None
        return upload(table(rows, size, lambda slot: slot.key_scale))

    def mask(rows: Sequence[Sequence[Slot]], size: int) -> Tensor | None:
        return None if capacity is None else upload(table(rows, size, lambda slot: 1.0) > 0)

    rows = upload(table(frames, num_frames, lambda slot: slot[0]).long())
    ages = upload(table(pointers, num_pointers, lambda slot: slot[0]))
    codes = method.frame_codes[:, 0, 0][rows]
    features = [torch.cat([f.tokens.features for f in row]) for row in frames]
    joined = [
        torch.cat([p.pointer for p in row]) if row else head.no_obj_ptr.new_zeros(0, head.width) for row in pointers
    ]
    return MemoryContext(
        features=torch.stack([_padded(x, num_frames) for x in features]).to(dtype),
        position=sample.position[:, None] + codes[:, :, None],
        num_unrotated=sample.num_unrotated,
        grid=sample.grid,
        pointers=head.tokens(torch.stack([_padded(x, num_pointers) for x in joined])),
        pointer_position=head.age_code(ages, span),
        frame_scale=scale(frames, num_frames),
        pointer_scale=_repeat(scale(pointers, num_pointers), head),
        frame_mask=mask(frames, num_frames),
        pointer_mask=_repeat(mask(pointers, num_pointers), head),
    )


def _padded(rows: Tensor, size: int) -> Tensor:
    """Zeros after the rows, up to `size` of them."""
    missing = size - len(rows)
    return F.pad(rows, (0, 0) * (rows.ndim - 1) + (0, missing)) if missing else rows


def _repeat(values: Tensor | None, head: PointerHead) -> Tensor | None:
    """(B, P) values of pointers to (B, P * tokens) of their tokens."""
    return None if values is None else values.repeat_interleave(head.width // head.memory_width, 1)
