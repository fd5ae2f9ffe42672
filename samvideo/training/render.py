"""Draw clips from layers: pictures and cut-out objects, each moved and bent in its own way, in batches."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from samvideo.training.library import Shot
from samvideo.types import BoolArray, FloatArray

MARGIN = 2  # pixels of a shot that are read around what is drawn, for interpolation
MAX_LEVEL = 4  # shots are halved at most this often before they are drawn smaller


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a shot is in the T frames: output = centre + matrix · (source - anchor), in pixels.

    Attributes:
        centre: (T, 2), x and y in the output.
        matrix: (T, 2, 2).
        anchor: (T, 2), the point of the source that is drawn at `centre`.
    """

    centre: FloatArray
    matrix: FloatArray
    anchor: FloatArray

    def to_output(self, points: FloatArray) -> FloatArray:
        """Map one point of the source per frame, (T, 2), to the output."""
        moved: FloatArray = self.centre + np.einsum("tij,tj->ti", self.matrix, points - self.anchor)
        return moved

    def to_source(self) -> FloatArray:
        """Return the affine maps (T, 2, 3) from the output to the source."""
        inverse = np.linalg.inv(self.matrix)
        return np.concatenate(
            [inverse, (self.anchor - np.einsum("tij,tj->ti", inverse, self.centre))[..., None]], 2
        )


@dataclass(frozen=True, eq=False)
class Layer:
    """A shot as it is drawn into a clip of T frames.

    Attributes:
        shot: the source.
        frames: its frame for each of the T.
        place: where it is drawn.
        slots: ids of the shot and the object slot (from 0) that each becomes; other ids become background.
        cutout: the only object that is drawn, over the layers below; None: the whole picture, over all.
        shown: bool (T,), frames that it is drawn on.
        bend: displacements (T, 2, g, g) in output pixels of a coarse grid over the output, or None.
        gain: of red, green and blue.
    """

    shot: Shot
    frames: Sequence[int]
    place: Placement
    slots: dict[int, int]
    cutout: int | None = None
    shown: BoolArray | None = None
    bend: FloatArray | None = None
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)


def draw(clips: Sequence[Sequence[Layer]], side: int, objects: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draw the layers of B clips, the lowest first, which must be a whole picture.

    Returns frames (B, T, 3, S, S) in 0..1 and masks (B, O, T, S, S), float32. An object is hidden where a later
    layer covers it. Outside of a picture it is mirrored, without its objects.
    """
    length = len(clips[0][0].frames)
    frames = torch.zeros(len(clips), length, 3, side, side, device=device)
    masks = torch.zeros(len(clips), objects, length, side, side, device=device)
    for depth in range(max(map(len, clips))):
        for still in (True, False):
            rows = [
                r for r, clip in enumerate(clips) if len(clip) > depth and (len(clip[depth].shot) == 1) == still
            ]
            if rows:
                _over(frames, masks, rows, [clips[row][depth] for row in rows])
    return frames, masks


def _over(frames: Tensor, masks: Tensor, rows: list[int], layers: list[Layer]) -> None:
    """Draw one layer of each of the clips `rows`, in place."""
    side, length, device = frames.shape[-1], frames.shape[1], frames.device
    objects = masks.shape[1]
    rgb, alpha, drawn = _sample(layers, side, objects, device)
    shown = [np.ones(length, bool) if layer.shown is None else layer.shown for layer in layers]
    alpha = alpha * _to(np.stack(shown), device)[:, :, None, None]
    index = torch.tensor(rows, device=device)
    frames[index] = torch.lerp(frames[index], rgb, alpha[:, :, None])
    covered = (alpha > 0.5)[:, None]
    masks[index] = torch.where(covered, drawn.float(), masks[index])


def _sample(layers: list[Layer], side: int, objects: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return rgb (n, T, 3, S, S), alpha (n, T, S, S) and bool masks (n, O, T, S, S) of n layers."""
    length, count = len(layers[0].frames), len(layers)
    parts, origins = zip(*(_read(layer, side, objects) for layer in layers), strict=True)
    canvas = _pad(parts)
    x, y = _source_places(layers, side, device)
    width, height = _to([layer.shot.size_wh for layer in layers], device).T[:, :, None, None, None]
    inside = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
    left, top, step = _to(origins, device).T[:, :, None, None, None]
    wide, high = _to([(part.shape[3], part.shape[2]) for part in parts], device).T[:, :, None, None, None]
    x = ((_mirrored(x, width) - left + 0.5) / step - 0.5).clamp_(min=0).minimum(wide - 1)
    y = ((_mirrored(y, height) - top + 0.5) / step - 0.5).clamp_(min=0).minimum(high - 1)
    size = canvas.shape[-2:]
    grid = torch.stack([(2 * x + 1) / size[1] - 1, (2 * y + 1) / size[0] - 1], -1)  # (n, T, S, S, 2)
    if canvas.shape[1] == 1:
        drawn = F.grid_sample(canvas[:, 0], grid.flatten(1, 2), padding_mode="border", align_corners=False)
        drawn = drawn.unflatten(2, (length, side)).transpose(1, 2)
    else:
        drawn = F.grid_sample(canvas.flatten(0, 1), grid.flatten(0, 1), padding_mode="border", align_corners=False)
        drawn = drawn.unflatten(0, (count, length))
    rgb, alpha, chosen = drawn.split([3, 1, objects], 2)
    whole = _to([layer.cutout is None for layer in layers], device)[:, None, None, None]
    alpha = torch.maximum(alpha[:, :, 0] * inside, whole)
    return rgb, alpha, ((chosen > 0.5) & inside[:, :, None]).transpose(1, 2)


def _read(layer: Layer, side: int, objects: int) -> tuple[Tensor, tuple[int, int, int]]:
    """Read the part of a shot that is drawn, at the size that is nearest to that in the output.

    Returns (F, 3 + 1 + O, h, w): colours, the cutout's mask, and the masks of the slots; and where the part begins:
    x, y, and how many pixels of the shot one of its pixels has along a side.
    """
    shot, still = layer.shot, len(layer.shot) == 1
    maps = layer.place.to_source()
    smallest = float(np.sqrt(np.abs(np.linalg.det(maps[..., :2])).min()))
    step = 2 ** min(MAX_LEVEL, max(0, round(math.log2(smallest))))
    x1, y1, x2, y2 = _region(layer, maps, side, step)
    pixels = shot.pixels[:, :, y1:y2, x1:x2] if still else shot.pixels[list(layer.frames), :, y1:y2, x1:x2]
    ids = pixels[:, 3]
    wanted = [layer.cutout or 0] + [0] * objects
    for number, slot in layer.slots.items():
        wanted[1 + slot] = number
    masks = torch.stack(
        [ids == number if number else torch.zeros_like(ids, dtype=torch.bool) for number in wanted], 1
    )
    gain = torch.tensor(layer.gain, device=ids.device)[:, None, None] / 255
    part = torch.cat([(pixels[:, :3] * gain).clamp_(max=1), masks.float()], 1)
    if step > 1:
        part = F.avg_pool2d(part, step, ceil_mode=True)
    return part, (x1, y1, step)


def _region(layer: Layer, maps: FloatArray, side: int, step: int) -> tuple[int, int, int, int]:
    """Return the part of a shot that is drawn, in whole steps from the left and the top."""
    if layer.cutout is not None:
        boxes = layer.shot.boxes[sorted(set(layer.frames)), layer.cutout - 1]
        boxes = boxes[boxes[:, 2] > 0]
        if not len(boxes):
            return 0, 0, 1, 1
        low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    else:
        bend = 0 if layer.bend is None else float(np.abs(layer.bend).max())
        a, b = -bend, side - 1 + bend
        corners = maps @ np.array([[a, b, a, b], [a, a, b, b], [1, 1, 1, 1]])
        low, high = corners.min((0, 2)), corners.max((0, 2))
    limit = np.array(layer.shot.size_wh)
    low = np.clip(np.floor(low) - MARGIN * step, 0, limit - 2 * step) // step * step
    high = np.clip(np.ceil(high) + MARGIN * step, low + step, limit)
    x1, y1, x2, y2 = (max(0, int(value)) for value in (*low, *high))
    return x1, y1, x2, y2


def _pad(parts: Sequence[Tensor]) -> Tensor:
    """Stack maps of different sizes, (n, F, C, H, W); what is beyond a map is never read."""
    height, width = (max(part.shape[axis] for part in parts) for axis in (2, 3))
    canvas = parts[0].new_zeros(len(parts), *parts[0].shape[:2], height, width)
    for row, part in zip(canvas, parts, strict=True):
        row[..., : part.shape[2], : part.shape[3]] = part
    return canvas


def _source_places(layers: list[Layer], side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return x and y (n, T, S, S) in the shot of each pixel of the output."""
    line = torch.arange(side, device=device, dtype=torch.float32)
    x, y = line[None, :], line[:, None]
    bends = [layer.bend for layer in layers]
    first = next((bend for bend in bends if bend is not None), None)
    if first is not None:
        coarse = _to(np.stack([np.zeros_like(first) if bend is None else bend for bend in bends]), device)
        fine = F.interpolate(coarse.flatten(0, 1), size=(side, side), mode="bicubic", align_corners=True)
        bent = fine.unflatten(0, coarse.shape[:2])
        x, y = x + bent[:, :, 0], y + bent[:, :, 1]
    maps = _to(np.stack([layer.place.to_source() for layer in layers]), device)
    a, b, c, d, e, f = maps.flatten(2).movedim(2, 0)[..., None, None]
    return a * x + b * y + c, d * x + e * y + f


def _mirrored(place: Tensor, size: Tensor) -> Tensor:
    """Fold coordinates outside of 0 to size - 1 back into it."""
    last = (size - 1).clamp(min=1)
    return last - ((place % (2 * last)) - last).abs()


def _to(values: Any, device: torch.device) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32)).to(device, non_blocking=True)
