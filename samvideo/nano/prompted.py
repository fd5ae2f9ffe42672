"""Masks from boxes and clicks: a network on a crop with prompt planes, which refines its own output."""

import math
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from einops import reduce, repeat
from numpy.typing import NDArray
from torch import Tensor

from samvideo.cues.barrier import FAR, barrier
from samvideo.cues.crop import Window
from samvideo.cues.grabcut import box_to_mask, main_parts, settle
from samvideo.geometry import Box4
from samvideo.nano.network import PROMPT
from samvideo.nano.runtime import PROMPT_SIDE, Networks
from samvideo.types import BoolArray, FloatArray, UInt8Array

LAB, VALID, COLOUR, ANSWER, CUT, ALIKE, MOVED, BOX, EDGE, YES, NO, HAS_BOX = slice(0, 3), *range(3, 14)
BEYOND, NEAR, MOTION, TRUST, PRIOR = slice(14, 16), slice(16, 18), slice(18, 20), 20, 21
_SURE = 2.0  # log-odds of the network beyond which GrabCut does not change a pixel
_OUTSIDE = np.float32(8.0)
_TIGHT, _UNLIKELY = (
    0.12,
    -1.5,
)  # allowed gap to a side, as a share of the box; log-odds below which nothing is there
_DOT = 0.9  # threshold for the centre of a click in its plane
_FLAT, _CALM = 12.0, 30.0  # least scale of the barriers, in levels of Lab and of motion
_MOTION_SIDE = 128  # pixels of the motion image for GrabCut; motion is smooth
_ROOM = 0.03  # margin of the box around a mask, as a share of its size
# bins of histograms and their ranges
_COLOURS = (14, 16, 16), ((-2.7, 2.7), (-1.4, 1.4), (-1.4, 1.4))
_MOTIONS = (24, 24), ((-2.0, 2.0), (-2.0, 2.0))
_SLOWEST = 0.7  # least scale of motion in pixels: the precision of the flow

Prompts = tuple[tuple[Box4, BoolArray] | None, FloatArray, NDArray[np.int64]]  # a box with GrabCut's mask, clicks


class Seen(NamedTuple):
    """An image uint8 (H, W, 3), and its motion float32 (h, w, 3) from `own_motion`, if known."""

    rgb: UInt8Array
    motion: FloatArray | None


def drawing(
    rgb: UInt8Array,
    valid: FloatArray,
    held: tuple[Box4, FloatArray] | None,
    xy: FloatArray,
    labels: NDArray[np.int64],
) -> FloatArray:
    """Build the prompt planes of a crop.

    Args:
        rgb: uint8 (S, S, 3), the crop.
        valid: float32 (S, S), 1 inside the image.
        held: a box in pixels of the crop with its GrabCut mask, float32 (S, S) in [0, 1]; or None.
        xy: (N, 2) clicks in pixels of the crop.
        labels: (N,) 1 on the object, 0 not on it.

    Returns:
        float32 (PROMPT + 1, S, S); the last plane is a prior from the positions of the prompts.
    """
    side = rgb.shape[0]
    planes = np.zeros((PROMPT + 1, side, side), np.float32)
    planes[LAB] = (cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB).transpose(2, 0, 1).astype(np.float32) - 128) / 48
    planes[LAB] *= valid
    planes[VALID] = valid
    place = np.arange(side, dtype=np.float32) + 0.5
    for (x, y), label in zip(xy, labels, strict=True):
        square = (place - x) ** 2 + (place[:, None] - y) ** 2
        plane = planes[YES if label else NO]
        np.maximum(plane, np.exp(square * np.float32(-1 / (2 * 5.0**2))), out=plane)
        if label and held is None:
            spread = np.exp(square * np.float32(-1 / (2 * (side / 16) ** 2)))
            planes[PRIOR] = np.maximum(planes[PRIOR], spread)
    if held is not None:
        (x1, y1, x2, y2), cut = held
        planes[CUT] = (2 * cut - 1) * valid
        across, down = np.minimum(place - x1, x2 - place), np.minimum(place - y1, y2 - place)[:, None]
        edge = np.minimum(across, down)
        planes[EDGE] = np.clip(edge * np.float32(4 / side), -1, 1)
        planes[BOX], planes[HAS_BOX] = edge > 0, 1
        u = (place - (x1 + x2) / 2) / max((x2 - x1) / 2, 1)
        v = (place - (y1 + y2) / 2) / max((y2 - y1) / 2, 1)
        planes[PRIOR] = np.clip(1.2 - u**2 - v[:, None] ** 2, 0, 1) * planes[BOX]
    return planes


def with_barriers(planes: FloatArray) -> FloatArray:
    """Add barrier distances to planes (B, PROMPT + 1, S, S) of `drawing`.

    Two planes, of colour and of motion where it is known, have the distance from certain background, 0 to 1.5; two
    the distance from clicks on the object, as 1 to -0.5.
    """
    planes = planes.copy()
    small = planes[:, :, ::2, ::2]
    valid = small[:, VALID] > 0.5
    outside = (small[:, HAS_BOX] > 0) & (small[:, BOX] == 0) & valid
    starts = np.stack([outside | (small[:, NO] > _DOT), small[:, YES] > _DOT])
    kinds = np.stack([planes[:, LAB], np.pad(planes[:, MOTION], ((0, 0), (0, 1), (0, 0), (0, 0)))])
    levels = _levels(reduce(kinds, "kind b c (h two) (w too) -> kind b c h w", "mean", two=2, too=2))
    seeds = repeat(starts, "start b h w -> (start kind b) h w", kind=2)
    ways = barrier(repeat(levels, "kind b c h w -> (start kind b) c h w", start=2), seeds)
    for start, kind, b in np.ndindex(2, *levels.shape[:2]):
        way = ways[np.ravel_multi_index((start, kind, b), (2, *levels.shape[:2]))]
        if way.max() < FAR and (kind == 0 or small[b, TRUST].any()):
            far = max((_FLAT, _CALM)[kind], float(np.quantile(way[valid[b]], 0.95)))
            plane = cv2.resize(np.minimum(way / np.float32(far), np.float32(1.5)), planes.shape[:1:-1])
            plane = 1 - plane if start else plane
            planes[b, (BEYOND, NEAR)[start].start + kind] = plane * planes[b, VALID]
    return planes


def _levels(planes: FloatArray) -> UInt8Array:
    """Convert planes of order one to bytes."""
    return np.clip(planes * 48 + 128, 0, 255).astype(np.uint8)


def with_motion(planes: FloatArray, motion: FloatArray, moved: FloatArray | None = None) -> FloatArray:
    """Add motion to the planes of `drawing`.

    Args:
        planes: of one crop.
        motion: float32 (S, S, 3) of `samvideo.cues.motion.own_motion`.
        moved: float32 (S, S) in [0, 1], the mask of `cut_by_motion` for the box, or None.
    """
    planes = planes.copy()
    moves, trust = _scaled(motion), motion[..., 2] * planes[VALID]
    planes[MOTION] = moves.transpose(2, 0, 1) * planes[VALID]
    planes[TRUST] = trust
    if moved is not None:
        planes[MOVED] = (2 * moved - 1) * planes[VALID]
    return planes


def _scaled(motion: FloatArray) -> FloatArray:
    """Scale motion (h, w, 2) to order one by the fast pixels of this region, and weight it by its trust."""
    speed = np.abs(motion[::3, ::3, :2]).max(2)
    scale = np.float32(max(_SLOWEST, 0.6 * float(np.quantile(speed, 0.95))))
    moves: FloatArray = np.clip(motion[..., :2] / scale, -2, 2) * motion[..., 2:]
    return moves


def cut_by_motion(rgb: UInt8Array, box: Box4, motion: FloatArray) -> BoolArray:
    """Segment a box by GrabCut, with motion in place of the hue channels.

    Args:
        rgb: uint8 (H, W, 3).
        box: in its pixels.
        motion: float32 (h, w, 3) of `samvideo.cues.motion.own_motion`.

    Returns:
        bool (h, w).
    """
    height, width = motion.shape[:2]
    x1, y1, x2, y2 = np.array(box) * np.tile([width / rgb.shape[1], height / rgb.shape[0]], 2)
    inside = np.zeros((height, width), np.uint8)
    inside[_pixels((x1, y1, x2, y2), inside.shape)] = 1
    rows, columns = region = Window.around(inside, 1.5, 8, 24).region
    image = np.full((height, width, 3), 128, np.uint8)
    small = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    image[..., 0] = cv2.cvtColor(small, cv2.COLOR_RGB2LAB)[..., 0]
    image[rows, columns, 1:] = _levels(_scaled(motion[region]))
    none = np.zeros((0, 2), np.float32), np.zeros(0, np.int64)
    return box_to_mask(image, (float(x1), float(y1), float(x2), float(y2)), *none, _MOTION_SIDE)


def with_answer(planes: Tensor, logits: Tensor | None) -> Tensor:
    """Build network input (B, PROMPT, S, S) from planes (B, PROMPT + 1, S, S) and previous logits, if any."""
    planes = planes.clone()
    if logits is None:
        inside = planes[:, PRIOR]
        boxed = planes[:, HAS_BOX]
        outside = torch.where(boxed > 0, 1 - planes[:, BOX] + 0.05, (1 - inside) * 0.5)
    else:
        planes[:, ANSWER] = (logits / 4).clamp(-1.5, 1.5)
        inside = logits.sigmoid()
        outside = 1 - inside
    inside, outside = inside * planes[:, VALID], outside * planes[:, VALID]
    planes[:, COLOUR] = _alike(planes[:, LAB], inside, outside, *_COLOURS)
    trust = planes[:, TRUST]
    if bool(trust.any()):
        planes[:, ALIKE] = _alike(planes[:, MOTION], inside * trust, outside * trust, *_MOTIONS) * trust
    return planes[:, :PROMPT]


def _alike(
    looks: Tensor, inside: Tensor, outside: Tensor, bins: tuple[int, ...], spans: tuple[tuple[float, float], ...]
) -> Tensor:
    """Compute a third of the log-odds of the object given each pixel's values, within ±1, from soft masks.

    Args:
        looks: (B, C, S, S), C planes that are binned together.
        inside, outside: (B, S, S) weights.
        bins, spans: of each plane.
    """
    index = torch.zeros_like(inside, dtype=torch.long)
    for plane, count, (low, high) in zip(looks.unbind(1), bins, spans, strict=True):
        index = index * count + ((plane - low) * (count / (high - low))).long().clamp(0, count - 1)
    index = index.flatten(1)
    pool = F.avg_pool3d if len(bins) == 3 else F.avg_pool2d
    densities = []
    for weight in (inside, outside):
        counts = weight.new_zeros(len(looks), math.prod(bins)).scatter_add_(1, index, weight.flatten(1))
        cube = counts.view(-1, 1, *bins)
        cube = pool(cube, 3, 1, 1) + cube * 0.15
        densities.append(cube.flatten(1) / cube.flatten(1).sum(1, keepdim=True).clamp(min=1e-3))
    odds = ((densities[0] + 1e-4) / (densities[1] + 1e-4)).log().clamp(-3, 3) / 3
    return odds.gather(1, index).view_as(inside)


def mask_of(
    networks: Networks,
    rgb: UInt8Array,
    box: Box4 | None,
    xy: FloatArray,
    labels: NDArray[np.int64],
    before: BoolArray,
    motion: FloatArray | None = None,
) -> BoolArray:
    """Segment an object from a box or clicks, or correct a mask by them.

    Args:
        networks: both networks.
        rgb: uint8 (H, W, 3).
        box: in its pixels, or None.
        xy: (N, 2) clicks in its pixels, N may be 0 with a box.
        labels: (N,) 1 on the object, 0 not on it.
        before: bool (H, W), the mask to correct; empty for a new object.
        motion: float32 (h, w, 3) of `samvideo.cues.motion.own_motion` towards the next frame, if known.

    Returns:
        bool (H, W), not empty; includes the pixels clicked with 1 and none clicked with 0.
    """
    seen = Seen(rgb, motion)
    if box is not None:
        mask = main_parts(_boxed(networks, seen, box, xy, labels, tight=True))
    elif before.any():
        window = _about(before, xy)
        answer = (window.cut(before.astype(np.float32), PROMPT_SIDE) - np.float32(0.5)) * 8
        mask = main_parts(_refine(networks, seen, window, (None, xy, labels), answer, rounds=3) > 0)
    else:
        whole = Window.around(np.ones(before.shape, np.uint8), 1.0, 0, 24)
        far = _clicked_parts(_refine(networks, seen, whole, (None, xy, labels)) > 0, xy, labels)
        near = _clicked_parts(_refine(networks, seen, _about(far, xy), (None, xy, labels)) > 0, xy, labels)
        half = _about(before, xy, max(before.shape) // 2)
        mid = _clicked_parts(_refine(networks, seen, half, (None, xy, labels)) > 0, xy, labels)
        mask = far | near | mid  # each may be only a part of the object
        if mask.any():
            mask = _clicked_parts(_boxed(networks, seen, _grown(mask), xy, labels, tight=False), xy, labels)
    columns, rows = np.minimum(xy.astype(np.int64), np.array(mask.shape[::-1]) - 1).T
    mask[rows, columns] = labels == 1
    return mask


def _boxed(
    networks: Networks, seen: Seen, box: Box4, xy: FloatArray, labels: NDArray[np.int64], tight: bool
) -> BoolArray:
    """Segment a box by the network, and by GrabCut where that is unsure; empty outside the box.

    Boxes are drawn tightly around objects (Lempitsky et al., "Image Segmentation with a Bounding Box Prior", ICCV
    2009): a mask that stays away from a side is predicted again with a click on the likeliest pixel there.
    """
    rgb = seen.rgb
    marks = np.zeros(rgb.shape[:2], np.uint8)
    marks[_pixels(box, marks.shape)] = 1
    cut = box_to_mask(rgb, box, xy, labels)
    window = Window.around(marks, 1.5, 8, 24)

    def draw(xy: FloatArray, labels: NDArray[np.int64]) -> tuple[FloatArray, BoolArray]:
        odds = _refine(networks, seen, window, ((box, cut), xy, labels))
        odds[marks == 0] = -_OUTSIDE
        return odds, settle(rgb, box, odds, _SURE, xy, labels) & (marks > 0)

    odds, mask = draw(xy, labels)
    if mask.sum() < 0.05 * marks.sum():
        return cut  # no object found
    if tight and (likely := _untouched(main_parts(mask), box, odds)):
        ones = np.ones(len(likely), np.int64)
        _, larger = draw(np.concatenate([xy, np.array(likely, np.float32)]), np.concatenate([labels, ones]))
        if larger.sum() >= mask.sum():
            return larger
    return mask


def _untouched(mask: BoolArray, box: Box4, odds: FloatArray) -> list[tuple[float, float]]:
    """Find the likeliest pixel along each side of a box that a mask stays away from, if it is likely enough."""
    (x1, y1, x2, y2), (left, top, width, height) = box, cv2.boundingRect(mask.view(np.uint8))
    across, down = _TIGHT * (x2 - x1), _TIGHT * (y2 - y1)
    strips = [
        (left - x1 > across, (x1, y1, x1 + across, y2)),
        (x2 - left - width > across, (x2 - across, y1, x2, y2)),
        (top - y1 > down, (x1, y1, x2, y1 + down)),
        (y2 - top - height > down, (x1, y2 - down, x2, y2)),
    ]
    smooth, places = cv2.blur(odds, (5, 5)), []
    for rows, columns in [_pixels(strip, mask.shape) for far, strip in strips if far]:
        part = smooth[rows, columns]
        row, column = np.unravel_index(part.argmax(), part.shape)
        if part[row, column] > _UNLIKELY:
            places.append((columns.start + float(column) + 0.5, rows.start + float(row) + 0.5))
    return places


def _grown(mask: BoolArray) -> Box4:
    """Return the box around an uncertain mask with a margin, clipped to the image."""
    x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
    height, width = mask.shape
    x1, y1 = max(0.0, x - _ROOM * w), max(0.0, y - _ROOM * h)
    return x1, y1, min(width, x + w + _ROOM * w), min(height, y + h + _ROOM * h)


def _refine(
    networks: Networks,
    seen: Seen,
    window: Window,
    prompts: Prompts,
    answer: FloatArray | None = None,
    rounds: int = 2,
) -> FloatArray:
    """Predict log-odds (H, W) of the object in a few rounds, averaged over the crop and its mirror image."""
    drawn = _drawn(seen, window, prompts)
    mirrored = drawn.flip(3)
    mirrored[:, MOTION.start].neg_()
    both = torch.cat([drawn, mirrored])
    mean = torch.from_numpy(answer) if answer is not None else None
    for _ in range(rounds):
        last = torch.stack([mean, mean.flip(1)]) if mean is not None else None
        one, other = networks.draw(with_answer(both, last))
        mean = (one + other.flip(1)) / 2
    assert mean is not None
    odds = np.full(window.shape, -_OUTSIDE, np.float32)
    region, spread = window.patch(mean.numpy()).onto(window.shape)
    odds[region] = spread
    return odds


def _drawn(seen: Seen, window: Window, prompts: Prompts) -> Tensor:
    """Build the planes (1, PROMPT + 1, S, S) of a window."""
    boxed, xy, labels = prompts
    crop = np.ascontiguousarray(window.cut(seen.rgb, PROMPT_SIDE))
    valid = window.cut(np.ones(window.shape, np.float32), PROMPT_SIDE)
    scale = PROMPT_SIDE / window.side
    origin = np.array([window.x, window.y])
    held = None
    if boxed is not None:
        corners = (np.array(boxed[0]).reshape(2, 2) - origin) * scale
        held = tuple(corners.ravel().tolist()), window.cut(boxed[1].astype(np.float32), PROMPT_SIDE)
    planes = drawing(crop, valid, held, (xy - origin) * scale, labels)
    if seen.motion is not None:
        moved = None
        if boxed is not None:
            moved = window.cut(cut_by_motion(seen.rgb, boxed[0], seen.motion).astype(np.float32), PROMPT_SIDE)
        planes = with_motion(planes, window.cut(seen.motion, PROMPT_SIDE), moved)
    return torch.from_numpy(with_barriers(planes[None]))


def _pixels(box: Box4, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the pixels that a box touches, at least one."""
    x1, y1, x2, y2 = box
    left, top = min(int(x1), shape[1] - 1), min(int(y1), shape[0] - 1)
    return slice(top, max(top + 1, int(np.ceil(y2)))), slice(left, max(left + 1, int(np.ceil(x2))))


def _about(mask: BoolArray, xy: FloatArray, least: int = 48) -> Window:
    """Return a window around a mask and clicks, with a side of at least `least` pixels."""
    marks = mask.astype(np.uint8)
    columns, rows = np.minimum(xy.astype(np.int64), np.array(mask.shape[::-1]) - 1).T
    marks[rows, columns] = 1
    return Window.around(marks, 1.5, 16, least)


def _clicked_parts(mask: BoolArray, xy: FloatArray, labels: NDArray[np.int64]) -> BoolArray:
    """Return the clicked components of a mask, or its main ones if none was clicked."""
    _, parts = cv2.connectedComponents(mask.view(np.uint8))
    columns, rows = np.minimum(xy[labels == 1].astype(np.int64), np.array(mask.shape[::-1]) - 1).T
    clicked = np.setdiff1d(parts[rows, columns], 0)
    kept: BoolArray = np.isin(parts, clicked) if len(clicked) else main_parts(mask)
    return kept
