"""The segmenter without weights: GrabCut (Rother et al., 2004) on a small crop, with a seeded generator."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from samvideo.geometry import Box4
from samvideo.object_prompts import ObjectPrompt
from samvideo.segmenters.base import EmbeddedImage, Previous, Segmentation, mask_of
from samvideo.types import BoolArray, FloatArray, UInt8Array, image_wh

_LONGEST = 260  # longer side in pixels of the crop
_ROUNDS = 5


class GrabCutSegmenter:
    """Segments by colours and edges; implements `samvideo.segmenters.base.Segmenter`. Masks are not rated."""

    lookahead = 0

    def embed(self, rgb: UInt8Array, upcoming: UInt8Array | None = None) -> EmbeddedImage:
        """See `Segmenter.embed`."""
        return _Image(rgb)


class _Image(EmbeddedImage):
    def __init__(self, rgb: UInt8Array) -> None:
        super().__init__(image_wh(rgb))
        self._rgb = rgb

    def _candidates(
        self, prompts: Sequence[ObjectPrompt], previous: Mapping[int, Previous], multimask: bool | None
    ) -> list[Segmentation]:
        return [self._segment(prompt, previous.get(prompt.object_id)) for prompt in prompts]

    def _segment(self, prompt: ObjectPrompt, previous: Previous | None) -> Segmentation:
        if prompt.box is not None:
            mask = box_to_mask(self._rgb, prompt.box, prompt.xy, prompt.labels)
        else:
            before = mask_of(previous)
            if before is None:
                before = np.zeros(self._rgb.shape[:2], bool)
            mask = clicks_to_mask(self._rgb, prompt.xy, prompt.labels, before)
        return Segmentation(prompt.object_id, mask[None], np.ones(1, np.float32))


def box_to_mask(rgb: UInt8Array, box: Box4, xy: FloatArray, labels: NDArray[np.int64]) -> BoolArray:
    """Segment the object in a box.

    Args:
        rgb: uint8 (H, W, 3).
        box: x1, y1, x2, y2 in its pixels, inside the image.
        xy: (N, 2) clicks in addition to the box, N may be 0.
        labels: (N,) 1 on the object, 0 not on it.

    Returns:
        bool (H, W), empty outside the box, but not everywhere.
    """
    area = _around(box, 0.2, rgb)
    x1, y1, x2, y2 = box
    rows = np.arange(area[0].start, area[0].stop)[:, None]
    columns = np.arange(area[1].start, area[1].stop)[None]
    across = np.abs(columns + 0.5 - (x1 + x2) / 2) / max((x2 - x1) / 2, 0.5)
    down = np.abs(rows + 0.5 - (y1 + y2) / 2) / max((y2 - y1) / 2, 0.5)
    outside = np.maximum(across, down) > 1
    guess = np.where(outside, cv2.GC_BGD, cv2.GC_PR_FGD).astype(np.uint8)
    # GrabCut is worse on few pixels, so that a small box is enlarged.
    factor = _LONGEST / max(guess.shape)
    inside = _main_parts(_cut(rgb, area, guess, (xy, labels), factor) & ~outside)
    if inside.sum() < 0.1 * (~outside).sum():
        inside = (across**2 + down**2 <= 1) & ~outside  # no object found: an ellipse fits most shapes best
    mask = np.zeros(rgb.shape[:2], bool)
    mask[area] = inside
    if not mask.any():  # the box covers no pixel's centre
        mask[min(int(y1), rgb.shape[0] - 1), min(int(x1), rgb.shape[1] - 1)] = True
    return mask


def clicks_to_mask(rgb: UInt8Array, xy: FloatArray, labels: NDArray[np.int64], before: BoolArray) -> BoolArray:
    """Segment an object from clicks, or correct a mask by them.

    Args:
        rgb: uint8 (H, W, 3).
        xy: (N, 2) clicks in its pixels.
        labels: (N,) 1 on the object, 0 not on it.
        before: bool (H, W), the mask to correct; empty for a new object.

    Returns:
        bool (H, W): includes the pixels clicked with 1 and none clicked with 0.
    """
    size = max(rgb.shape[:2])
    radius = size / 6 if not before.any() else size / 12
    held = cv2.boundingRect(before.astype(np.uint8)) if before.any() else None
    corners = np.concatenate([xy - radius, xy + radius])
    if held is not None:
        corners = np.concatenate([corners, [[held[0], held[1]], [held[0] + held[2], held[1] + held[3]]]])
    x1, y1 = np.maximum(corners.min(0), 0)
    x2, y2 = np.minimum(corners.max(0), rgb.shape[1::-1])
    area = _around((float(x1), float(y1), float(x2), float(y2)), 0.1, rgb)
    guess = np.where(before[area], cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    _near(guess, area, xy[labels == 1], radius / 2, cv2.GC_PR_FGD)
    _near(guess, area, xy[labels == 0], radius / 4, cv2.GC_PR_BGD)
    inside = _cut(rgb, area, guess, (xy, labels), min(1.0, _LONGEST / max(guess.shape)))
    mask = np.zeros(rgb.shape[:2], bool)
    mask[area] = inside
    return _clicked_parts(mask, before, xy, labels)


def _around(box: Box4, pad: float, rgb: UInt8Array) -> tuple[slice, slice]:
    """Return the box with a margin, a share of its size, in whole pixels of the image."""
    x1, y1, x2, y2 = box
    wide, high = pad * (x2 - x1), pad * (y2 - y1)
    rows = slice(max(0, int(y1 - high)), min(rgb.shape[0], int(np.ceil(y2 + high)) + 1))
    columns = slice(max(0, int(x1 - wide)), min(rgb.shape[1], int(np.ceil(x2 + wide)) + 1))
    return rows, columns


def _near(guess: UInt8Array, area: tuple[slice, slice], xy: FloatArray, radius: float, label: int) -> None:
    """Draw discs around clicks."""
    for x, y in xy - (area[1].start, area[0].start):
        cv2.circle(guess, (int(x), int(y)), max(0, round(radius)), label, -1)


def _cut(
    rgb: UInt8Array,
    area: tuple[slice, slice],
    guess: UInt8Array,
    clicks: tuple[FloatArray, NDArray[np.int64]],
    factor: float,
) -> BoolArray:
    """Run GrabCut on one area, resized by a factor; clicks are certain, `guess` initialises the rest."""
    (xy, labels), shape = clicks, guess.shape
    size = max(1, round(shape[1] * factor)), max(1, round(shape[0] * factor))
    small = cv2.resize(guess, size, interpolation=cv2.INTER_NEAREST)
    scale = np.array([size[0] / shape[1], size[1] / shape[0]])
    for (x, y), label in zip((xy - (area[1].start, area[0].start)) * scale, labels, strict=True):
        cv2.circle(small, (int(x), int(y)), 2, int(cv2.GC_FGD if label else cv2.GC_BGD), -1)
    sure = (small == cv2.GC_FGD) | (small == cv2.GC_PR_FGD)
    if sure.any() and not sure.all():
        cv2.setRNGSeed(0)
        cv2.grabCut(
            cv2.resize(rgb[area], size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC),
            small,
            None,
            np.zeros((1, 65)),
            np.zeros((1, 65)),
            _ROUNDS,
            cv2.GC_INIT_WITH_MASK,
        )
        sure = (small == cv2.GC_FGD) | (small == cv2.GC_PR_FGD)
    soft = cv2.resize(sure.astype(np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    inside: BoolArray = soft > 0.5
    return inside


def _main_parts(mask: BoolArray) -> BoolArray:
    """Remove the components of a mask that are smaller than a tenth of its largest."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return mask
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    kept: BoolArray = (areas >= 0.1 * areas.max())[labels] & mask
    return kept


def _clicked_parts(mask: BoolArray, before: BoolArray, xy: FloatArray, labels: NDArray[np.int64]) -> BoolArray:
    """Keep components that were clicked or in the mask before, without rejected ones; clicks always apply."""
    size = np.array(mask.shape[::-1])
    columns, rows = np.minimum(xy.astype(np.int64), size - 1).T
    good = labels == 1
    mask[rows[good], columns[good]] = True
    joined = mask.astype(np.uint8)
    for x, y in xy[~good]:  # GrabCut left a hole at each of these: close it, so that it selects its component
        cv2.circle(joined, (int(x), int(y)), max(4, max(mask.shape) // 60), 1, -1)
    _, parts = cv2.connectedComponents(joined)
    clicked = parts[rows[good], columns[good]]
    refused = np.setdiff1d(parts[rows[~good], columns[~good]], clicked)
    wanted = np.setdiff1d(np.union1d(clicked, parts[before & mask]), refused)
    kept: BoolArray = np.isin(parts, wanted[wanted > 0]) & mask
    kept[rows[~good], columns[~good]] = False
    return kept
