"""Draw clips from layers: pictures and cut-out objects, each moved and bent in its own way, in batches."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from samvideo.training.library import Floats, Shot
from samvideo.types import BoolArray

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

    centre: Floats
    matrix: Floats
    anchor: Floats

    def to_output(self, points: Floats) -> Floats:
        """Map one point of the source per frame, (T, 2), to the output."""
        moved: Floats = self.centre + np.einsum("tij,tj->ti", self.matrix, points - self.anchor)
        return moved

    def to_source(self) -> Floats:
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
        shown: bool (T,), frames that a whole picture is drawn on; None for all.
        bend: displacements (T, 2, g, g) in output pixels of a coarse grid over the output, or None.
        gain: of red, green and blue.
    """

    shot: Shot
    frames: Sequence[int]
    place: Placement
    slots: dict[int, int]
    cutout: int | None = None
    shown: BoolArray | None = None
    bend: Floats | None = None
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)


def draw(clips: Sequence[Sequence[Layer]], side: int, objects: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draw the layers of B clips, the lowest first, which must be a whole picture.

    Returns frames (B, T, 3, S, S) in 0..1 and masks (B, O, T, S, S), float32. An object is hidden where a later
    layer covers it. Outside of a picture its edge is repeated, without objects.
    """
    length = len(clips[0][0].frames)
    frames = torch.zeros(len(clips), length, 3, side, side, device=device)
    masks = torch.zeros(len(clips), length, objects, side, side, device=device)
    for depth in range(max(map(len, clips))):
        alike = defaultdict(list)
        for row, clip in enumerate(clips):
            if depth < len(clip):
                layer = clip[depth]
                alike[layer.cutout is None, len(layer.shot) == 1].append((row, layer))
        for (whole, _), members in alike.items():
            rows, layers = zip(*members, strict=True)
            (_draw_pictures if whole else _draw_cutouts)(frames, masks, rows, layers)
    return frames, masks.transpose(1, 2)


def _draw_pictures(frames: Tensor, masks: Tensor, rows: Sequence[int], layers: Sequence[Layer]) -> None:
    """Replace the frames and masks of some clips by whole pictures."""
    numbers = [{slot: number for number, slot in layer.slots.items()} for layer in layers]
    wanted = [[found.get(slot, 0) for slot in range(masks.shape[2])] for found in numbers]
    drawn = _sample(layers, wanted, frames.shape[-1])
    shown = [(n, t) for n, layer in enumerate(layers) for t in _shown(layer)]
    chosen, times = torch.tensor(shown, device=frames.device).T
    place = torch.tensor(rows, device=frames.device)[chosen], times
    frames[place] = drawn[chosen, times, :3]
    masks[place] = (drawn[chosen, times, 3:] > 0.5).float()


def _shown(layer: Layer) -> list[int]:
    return list(range(len(layer.frames))) if layer.shown is None else np.flatnonzero(layer.shown).tolist()


def _draw_cutouts(frames: Tensor, masks: Tensor, rows: Sequence[int], layers: Sequence[Layer]) -> None:
    """Draw one object over each of some clips."""
    device = frames.device
    drawn = _sample(layers, [[layer.cutout or 0] for layer in layers], frames.shape[-1])
    rgb, alpha = drawn[:, :, :3], drawn[:, :, 3:]
    index = torch.tensor(rows, device=device)
    frames[index] = torch.lerp(frames[index], rgb, alpha)
    slots = np.zeros((len(layers), 1, masks.shape[2], 1, 1), np.float32)
    for n, layer in enumerate(layers):
        for slot in layer.slots.values():
            slots[n, 0, slot] = 1
    masks[index] = torch.where(alpha > 0.5, _to(slots, device), masks[index])


def _sample(layers: Sequence[Layer], wanted: Sequence[Sequence[int]], side: int) -> Tensor:
    """Return colours and masks (n, T, 3 + K, S, S) of layers that are all of stills or all of clips.

    Args:
        layers: n of them.
        wanted: K ids of each, 0 for none.
        side: S.
    """
    count, length, device = len(layers), len(layers[0].frames), layers[0].shot.pixels.device
    maps = [layer.place.to_source() for layer in layers]
    parts, origins = zip(*map(_read, layers, maps, wanted, repeat(side)), strict=True)
    canvas = _pad(parts)
    size_wh = np.array(canvas.shape[:2:-1])
    for place, (left, top, step) in zip(maps, origins, strict=True):
        # From pixels of the shot to those of its part, with a ring of one pixel, and to the range of grid_sample.
        place[..., 2] += 0.5 - np.array([left, top])
        place *= (2 / step / size_wh)[:, None]
        place[..., 2] += 2 / size_wh - 1
    grid = _grid(layers, _to(np.stack(maps), device), side)
    last = _to([(2 * part.shape[3] - 1, 2 * part.shape[2] - 1) / size_wh - 1 for part in parts], device)
    grid = torch.minimum(grid.clamp_(min=_to(1 / size_wh - 1, device)), last[:, None, None, None])
    if canvas.shape[1] == 1:
        drawn = F.grid_sample(canvas[:, 0], grid.flatten(1, 2), align_corners=False)
        return drawn.view(count, -1, length, side, side).transpose(1, 2)
    drawn = F.grid_sample(canvas.flatten(0, 1), grid.flatten(0, 1), align_corners=False)
    return drawn.view(count, length, -1, side, side)


def _read(layer: Layer, maps: Floats, wanted: Sequence[int], side: int) -> tuple[Tensor, tuple[int, int, int]]:
    """Read the part of a shot that is drawn, at the size that is nearest to that in the output.

    Returns (F, 3 + K, h, w), colours and masks, with a ring of one pixel without objects around it; and where the
    part begins without it: x, y, and how many pixels of the shot one of its pixels has along a side.
    """
    smallest = float(np.sqrt(np.abs(np.linalg.det(maps[..., :2])).min()))
    step = 2 ** min(MAX_LEVEL, max(0, round(math.log2(smallest))))
    x1, y1, x2, y2 = _region(layer, maps, side, step)
    pixels = layer.shot.pixels[..., y1:y2, x1:x2]
    if len(pixels) > 1:
        pixels = pixels[list(layer.frames)]
    rgb, ids = pixels[:, :3].float(), pixels[:, 3:]
    rgb = rgb.mul_(torch.tensor(layer.gain, device=rgb.device)[:, None, None] / 255).clamp_(max=1)
    masks = torch.cat([ids == number if number else torch.zeros_like(ids) for number in wanted], 1).float()
    if step > 1:
        rgb, masks = (F.avg_pool2d(part, step, ceil_mode=True) for part in (rgb, masks))
    return torch.cat([F.pad(rgb, (1, 1, 1, 1), "replicate"), F.pad(masks, (1, 1, 1, 1))], 1), (x1, y1, step)


def _region(layer: Layer, maps: Floats, side: int, step: int) -> tuple[int, int, int, int]:
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


def _grid(layers: Sequence[Layer], maps: Tensor, side: int) -> Tensor:
    """Apply affine maps (n, T, 2, 3), after bending, to the pixels of the output: (n, T, S, S, 2)."""
    line = torch.arange(side, device=maps.device, dtype=torch.float32)
    y, x = torch.meshgrid(line, line, indexing="ij")
    places = torch.stack([x, y], -1)
    if first := [layer.bend for layer in layers if layer.bend is not None][:1]:
        bends = [np.zeros_like(first[0]) if layer.bend is None else layer.bend for layer in layers]
        coarse = _to(np.stack(bends), maps.device).flatten(0, 1)
        fine = F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=True)
        places = places + fine.movedim(1, -1)
    places = places.reshape(-1, side**2, 2).expand(maps.shape[0] * maps.shape[1], -1, -1)
    moved = torch.baddbmm(maps[..., 2].flatten(0, 1)[:, None], places, maps[..., :2].flatten(0, 1).mT)
    return moved.view(*maps.shape[:2], side, side, 2)


def _to(values: Any, device: torch.device) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float32)).to(device, non_blocking=True)
