"""Batches the selected memories of several objects for memory attention, padded to a capacity if requested."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from samvideo.errors import ConfigError
from samvideo.heads.pointers import PointerHead
from samvideo.memory.method import MemoryModule
from samvideo.runtime import MemoryFrame, MemoryPointer, SelectedMemory
from samvideo.tensors import MemoryContext, MemoryTokens

Slot = MemoryFrame | MemoryPointer
Slots = Sequence[Sequence[Slot]]


def memory_context(
    method: MemoryModule,
    head: PointerHead | None,
    memories: Sequence[SelectedMemory],
    span: int,
    capacity: tuple[int, int] | None,
) -> MemoryContext:
    """Batch memories that have at least one frame each.

    Args:
        method: whose temporal code is used.
        head: makes tokens and the time code of pointers; None leaves pointers out.
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
    like, sample = method.no_memory, frames[0][0].tokens
    assert isinstance(sample, MemoryTokens)
    rows = _table(frames, num_frames, lambda slot: slot[0], like).long()
    codes = method.frame_codes[:, 0, 0][rows]
    features = [torch.cat([f.tokens.features for f in row]) for row in frames]
    padded = capacity is not None
    tokens = torch.stack([_padded(x, num_frames) for x in features])
    tokens = tokens if tokens.dtype == torch.float32 else tokens.to(like.dtype)
    nothing = tokens.new_zeros(len(memories), 0, tokens.shape[-1])
    context = MemoryContext(
        features=tokens,
        position=sample.position[:, None] + codes[:, :, None],
        num_unrotated=sample.num_unrotated,
        grid=sample.grid,
        pointers=nothing,
        pointer_position=nothing,
        frame_scale=_scales(frames, num_frames, like),
        frame_mask=_mask(frames, num_frames, like) if padded else None,
        pointer_mask=nothing[..., 0] > 0 if padded else None,
    )
    return context if head is None else _with_pointers(context, head, pointers, num_pointers, span, padded)


def _with_pointers(
    context: MemoryContext, head: PointerHead, pointers: Slots, size: int, span: int, padded: bool
) -> MemoryContext:
    """The context with `size` pointers an object; the last of the arguments are those of `memory_context`."""
    like = head.no_obj_ptr
    no_pointer = like.new_zeros(0, head.width)
    joined = [torch.cat([p.pointer for p in row]) if row else no_pointer for row in pointers]
    return replace(
        context,
        pointers=head.tokens(torch.stack([_padded(x, size) for x in joined])),
        pointer_position=head.age_code(_table(pointers, size, lambda slot: slot[0], like), span),
        pointer_scale=_per_token(_scales(pointers, size, like), head),
        pointer_mask=_per_token(_mask(pointers, size, like), head) if padded else None,
    )


def _table(rows: Slots, size: int, value: Callable[[Slot], float], like: Tensor) -> Tensor:
    """(B, size) a value of each slot, 0 in padding; copied without waiting for a GPU's queue."""
    values = [[value(slot) for slot in row] + [0.0] * (size - len(row)) for row in rows]
    return torch.tensor(values, dtype=torch.float32).to(like.device, non_blocking=True)


def _scales(rows: Slots, size: int, like: Tensor) -> Tensor | None:
    if all(slot.key_scale == 1 for row in rows for slot in row):
        return None
    return _table(rows, size, lambda slot: slot.key_scale, like)


def _mask(rows: Slots, size: int, like: Tensor) -> Tensor:
    return _table(rows, size, lambda slot: 1.0, like) > 0


def _padded(rows: Tensor, size: int) -> Tensor:
    """Zeros after the rows, up to `size` of them."""
    missing = size - len(rows)
    return F.pad(rows, (0, 0) * (rows.ndim - 1) + (0, missing)) if missing else rows


def _per_token(values: Tensor | None, head: PointerHead) -> Tensor | None:
    """(B, P) values of pointers to (B, P * tokens) of their tokens."""
    return None if values is None else values.repeat_interleave(head.width // head.memory_width, 1)
