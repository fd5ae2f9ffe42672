"""From boxes and clicks to a mask: a network that sees the prompts drawn into a crop and refines its own answer."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from samvideo.geometry import Box4
from samvideo.nano.network import PROMPT
from samvideo.nano.runtime import PROMPT_SIDE, Networks
from samvideo.trackers.parts.barrier import FAR, barrier
from samvideo.trackers.parts.crop import Window
from samvideo.trackers.parts.prompting import box_to_mask, main_parts, settle
from samvideo.types import BoolArray, FloatArray, UInt8Array

LAB, VALID, COLOUR, ANSWER, CUT, ALIKE, BOX, EDGE, YES, NO, HAS_BOX = slice(0, 3), 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
BEYOND, NEAR, MOTION, TRUST, PRIOR = 13, 14, slice(15, 17), 17, 18
_SURE = 2.0  # log-odds of the network beyond which GrabCut has no say
_OUTSIDE = np.float32(8.0)
_DOT = 0.9  # of a click's plane, at its middle
_FLAT = 12.0  # barrier, in levels of Lab, that counts as one at least
_ROOM = 0.03  # shares of a mask's size by which its box is larger
# bins of histograms and what they span
_COLOURS = (14, 16, 16), ((-2.7, 2.7), (-1.4, 1.4), (-1.4, 1.4))
_MOTIONS = (24, 24), ((-2.0, 2.0), (-2.0, 2.0))
_SLOWEST = 0.7  # pixels of the working picture that count as one at least: what flow can tell

Prompts = tuple[tuple[Box4, BoolArray] | None, FloatArray, NDArray[np.int64]]  # a box with GrabCut's mask, clicks


class Seen(NamedTuple):
    """A picture uint8 (H, W, 3), and how it moves towards others, float32 (h, w, 3) of `own_motion` each."""

    rgb: UInt8Array
    motions: Sequence[FloatArray]


def drawing(
    rgb: UInt8Array,
    valid: FloatArray,
    held: tuple[Box4, FloatArray] | None,
    xy: FloatArray,
    labels: NDArray[np.int64],
) -> FloatArray:
    """Planes of a crop that hold what is known before the first answer.

    Args:
        rgb: uint8 (S, S, 3), the crop.
        valid: float32 (S, S), 1 where it lies in the picture.
        held: a box in pixels of the crop, and float32 (S, S) what GrabCut makes of it, 0 to 1; or None.
        xy: (N, 2) clicks in pixels of the crop.
        labels: (N,) 1 on the object, 0 not on it.

    Returns:
        float32 (PROMPT + 1, S, S); the last is where the object is likely, from the prompts' places alone.
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
    """`drawing`s (B, PROMPT + 1, S, S) with the barriers of colour between each place and the prompts.

    In one plane from what is surely not the object, 0 to 1.5, in the other from clicks on the object, 1 to -0.5.
    """
    planes = planes.copy()
    small = planes[:, :, ::2, ::2]
    lab = planes[:, LAB].reshape(len(planes), 3, small.shape[2], 2, small.shape[3], 2).mean((3, 5))
    colours = np.clip(lab * 48 + 128, 0, 255).astype(np.uint8)
    valid = small[:, VALID] > 0.5
    outside = (small[:, HAS_BOX] > 0) & (small[:, BOX] == 0) & valid
    seeds = np.concatenate([outside | (small[:, NO] > _DOT), small[:, YES] > _DOT])
    ways = barrier(np.concatenate([colours, colours]), seeds)
    for k, (way, there) in enumerate(zip(ways, np.concatenate([valid, valid]), strict=True)):
        if way.max() < FAR:
            share = np.minimum(way / np.float32(max(_FLAT, np.quantile(way[there], 0.95))), np.float32(1.5))
            plane = cv2.resize(share, planes.shape[:1:-1])
            b, near = k % len(planes), k >= len(planes)
            planes[b, NEAR if near else BEYOND] = (1 - plane if near else plane) * planes[b, VALID]
    return planes


def with_motion(planes: FloatArray, motion: FloatArray) -> FloatArray:
    """A `drawing` that also holds how its crop moves: (S, S, 3) of `samvideo.trackers.parts.motion.own_motion`."""
    planes = planes.copy()
    moves, trust = motion[..., :2], motion[..., 2] * planes[VALID]
    speed = np.abs(moves).max(2)
    scale = np.float32(max(_SLOWEST, 0.6 * float(np.quantile(speed[::3, ::3], 0.95))))
    planes[MOTION] = np.clip(moves / scale, -2, 2).transpose(2, 0, 1) * trust
    planes[TRUST] = trust
    return planes


def with_answer(planes: Tensor, logits: Tensor | None) -> Tensor:
    """The network's input (B, PROMPT, S, S) from `drawing`s (B, PROMPT + 1, S, S) and the last answer, if any."""
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
    """Log-odds of the object given each pixel's looks, thirds of them within ±1, from soft masks.

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
        counts = torch.zeros(len(looks), math.prod(bins)).scatter_add_(1, index, weight.flatten(1))
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
    motions: Sequence[FloatArray] = (),
) -> BoolArray:
    """Segment what a box or clicks mean, or correct a mask by them.

    Args:
        networks: both networks.
        rgb: uint8 (H, W, 3).
        box: in its pixels, or None.
        xy: (N, 2) clicks in its pixels, N may be 0 with a box.
        labels: (N,) 1 on the object, 0 not on it.
        before: bool (H, W), the mask to be corrected; empty for a new object.
        motions: float32 (h, w, 3) of `samvideo.trackers.parts.motion.own_motion`, towards each other frame known.

    Returns:
        bool (H, W), not empty: holds the pixels clicked with 1, and none clicked with 0.
    """
    seen = Seen(rgb, motions)
    if box is not None:
        mask = main_parts(_boxed(networks, seen, box, xy, labels))
    elif before.any():
        window = _about(before.copy(), xy)
        answer = (window.cut(before.astype(np.float32), PROMPT_SIDE) - np.float32(0.5)) * 8
        mask = main_parts(_refine(networks, seen, window, (None, xy, labels), answer, rounds=3) > 0)
    else:
        whole = Window.around(np.ones(before.shape, np.uint8), 1.0, 0, 24)
        mask = _clicked_parts(_refine(networks, seen, whole, (None, xy, labels)) > 0, xy, labels)
        mask = _clicked_parts(_refine(networks, seen, _about(mask, xy), (None, xy, labels)) > 0, xy, labels)
        for _ in range(2 if motions else 1):  # with motion, what a first box leaves out may be told to belong
            if mask.any():
                mask = _clicked_parts(_boxed(networks, seen, _grown(mask), xy, labels), xy, labels)
    columns, rows = np.minimum(xy.astype(np.int64), np.array(mask.shape[::-1]) - 1).T
    mask[rows, columns] = labels == 1
    return mask


def _boxed(networks: Networks, seen: Seen, box: Box4, xy: FloatArray, labels: NDArray[np.int64]) -> BoolArray:
    """What a box holds: by the network, and by GrabCut where it is not sure; nothing outside of the box."""
    rgb = seen.rgb
    marks = np.zeros(rgb.shape[:2], np.uint8)
    marks[_pixels(box, marks.shape)] = 1
    cut = box_to_mask(rgb, box, xy, labels)
    odds = _refine(networks, seen, Window.around(marks, 1.5, 8, 24), ((box, cut), xy, labels))
    odds[marks == 0] = -_OUTSIDE
    mask: BoolArray = settle(rgb, box, odds, _SURE, xy, labels) & (marks > 0)
    return mask if mask.sum() >= 0.05 * marks.sum() else cut  # nothing told apart


def _grown(mask: BoolArray) -> Box4:
    """The box around a mask that is not sure, with a little room, within the picture."""
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
    """Log-odds (H, W) of the object: the mean over what moves and over mirror images, in a few rounds."""
    drawn = _drawn(seen, window, prompts)
    mirrored = drawn.flip(3)
    mirrored[:, MOTION.start].neg_()
    mean = torch.from_numpy(answer) if answer is not None else None
    for _ in range(rounds):
        turned = mean.flip(1) if mean is not None else None
        one, other = networks.draw(with_answer(drawn, mean)), networks.draw(with_answer(mirrored, turned))
        mean = (one.mean(0) + other.mean(0).flip(1)) / 2
    assert mean is not None
    odds = np.full(window.shape, -_OUTSIDE, np.float32)
    region, spread = window.patch(mean.numpy()).onto(window.shape)
    odds[region] = spread
    return odds


def _drawn(seen: Seen, window: Window, prompts: Prompts) -> Tensor:
    """`drawing`s (N, PROMPT + 1, S, S) of a window, one for each motion; one where there is none."""
    boxed, xy, labels = prompts
    crop = np.ascontiguousarray(window.cut(seen.rgb, PROMPT_SIDE))
    valid = window.cut(np.ones(window.shape, np.float32), PROMPT_SIDE)
    scale = PROMPT_SIDE / window.side
    origin = np.array([window.x, window.y])
    held = None
    if boxed is not None:
        corners = (np.array(boxed[0]).reshape(2, 2) - origin) * scale
        held = tuple(corners.ravel().tolist()), window.cut(boxed[1].astype(np.float32), PROMPT_SIDE)
    still = with_barriers(drawing(crop, valid, held, (xy - origin) * scale, labels)[None])[0]
    moving = [with_motion(still, window.cut(motion, PROMPT_SIDE)) for motion in seen.motions]
    return torch.from_numpy(np.stack(moving or [still]))


def _pixels(box: Box4, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The pixels that a box touches; at least one."""
    x1, y1, x2, y2 = box
    left, top = min(int(x1), shape[1] - 1), min(int(y1), shape[0] - 1)
    return slice(top, max(top + 1, int(np.ceil(y2)))), slice(left, max(left + 1, int(np.ceil(x2))))


def _about(mask: BoolArray, xy: FloatArray) -> Window:
    """A window around a mask and clicks; the mask is changed."""
    marks = mask.astype(np.uint8)
    columns, rows = np.minimum(xy.astype(np.int64), np.array(mask.shape[::-1]) - 1).T
    marks[rows, columns] = 1
    return Window.around(marks, 1.5, 16, 48)


def _clicked_parts(mask: BoolArray, xy: FloatArray, labels: NDArray[np.int64]) -> BoolArray:
    """The parts of a mask that were clicked; its main parts where none was."""
    _, parts = cv2.connectedComponents(mask.view(np.uint8))
    columns, rows = np.minimum(xy[labels == 1].astype(np.int64), np.array(mask.shape[::-1]) - 1).T
    clicked = np.setdiff1d(parts[rows, columns], 0)
    kept: BoolArray = np.isin(parts, clicked) if len(clicked) else main_parts(mask)
    return kept
