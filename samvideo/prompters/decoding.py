"""Parts of images in an image model: filtered masks of many prompts. Needs torch."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samvideo.image_model import ImageModel
from samvideo.picture_sizes import prompt_scale
from samvideo.pictures import to_picture
from samvideo.prompters.base import Candidate, MaskFilter, inclusive_box
from samvideo.segmenters.image_model import BATCH, answers
from samvideo.tensors import PromptTensors
from samvideo.types import BoolArray, UInt8Array

WHOLE_BYTES = 2**27
"""Of logits at the size of the image that are held at once."""


class PromptedPart:
    """A part of an image in a model; implements `samvideo.prompters.base.PromptedImage`.

    Args:
        model: ready for inference.
        rgb: uint8 (H, W, 3).
        part: x1, y1, x2, y2 in whole pixels.
    """

    @torch.inference_mode()
    def __init__(self, model: ImageModel, rgb: UInt8Array, part: tuple[int, int, int, int]) -> None:
        x1, y1, x2, y2 = part
        self._model, self._part, self._size_wh = model, part, (x2 - x1, y2 - y1)
        self._features = model.encode(model.preprocess(np.ascontiguousarray(rgb[y1:y2, x1:x2])))
        self._spec = model.spec_for(self._size_wh)

    def masks(self, xy_bn2: NDArray[np.float64], labels_bn: NDArray[np.int64], keep: MaskFilter) -> list[Candidate]:
        """See `PromptedImage.masks`."""
        return self.union(xy_bn2, labels_bn, keep, float("inf"))[0]

    @torch.inference_mode()
    def union(
        self, xy_bn2: NDArray[np.float64], labels_bn: NDArray[np.int64], keep: MaskFilter, above: float
    ) -> tuple[list[Candidate], BoolArray]:
        """See `PromptedImage.union`."""
        found: list[Candidate] = []
        union = torch.zeros(self._size_wh[::-1], dtype=torch.bool, device=self._model.device)
        for begin in range(0, len(xy_bn2), BATCH):
            low, quality = self._decode(xy_bn2[begin : begin + BATCH], labels_bn[begin : begin + BATCH])
            good = quality > keep.quality if keep.quality > 0 else torch.ones_like(quality, dtype=torch.bool)
            rows, columns = good.nonzero(as_tuple=True)
            at_once = max(1, WHOLE_BYTES // (4 * self._size_wh[0] * self._size_wh[1]))
            for start in range(0, len(rows), at_once):
                row, column = rows[start : start + at_once], columns[start : start + at_once]
                whole = to_picture(low[row, column][None], self._size_wh, self._spec)[0]
                stable, kept = _stability(whole, keep)
                if math.isfinite(above):
                    union |= (whole > above)[kept].any(0)
                found += self._packed(
                    (whole > 0)[kept],
                    quality[row, column][kept],
                    stable[kept],
                    xy_bn2[begin + row[kept].cpu().numpy()],
                )
        return found, union.cpu().numpy()

    def _decode(self, xy: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """(B, M, h, w) logits and (B, M) ratings of the masks that answer."""
        model = self._model
        scaled = (xy * prompt_scale(self._size_wh, self._spec)).astype(np.float32)
        points = PromptTensors(*(torch.from_numpy(values).to(model.device) for values in (scaled, labels)))
        embedding = model.embedding(self._features).expand(len(xy), -1, -1, -1)
        candidates = model.decode(self._features, embedding, points)
        index, quality = answers(candidates, model.spec.answer, ambiguous=labels.shape[1] == 1)
        rows = torch.arange(len(index), device=index.device)[:, None]
        return candidates.logits_bnhw[rows, index], quality

    def _packed(
        self, masks: Tensor, quality: Tensor, stable: Tensor, xy_mn2: NDArray[np.float64]
    ) -> list[Candidate]:
        """Candidates of (M, H, W) masks, and of the prompts that made them."""
        values = zip(masks.cpu().numpy(), quality.tolist(), stable.tolist(), xy_mn2.tolist(), strict=True)
        return [
            Candidate(np.packbits(mask), self._part, inclusive_box(mask), rating, stability, tuple(map(tuple, xy)))
            for mask, rating, stability, xy in values
        ]


def _stability(logits: Tensor, keep: MaskFilter) -> tuple[Tensor, Tensor]:
    """(M,) stability of (M, H, W) logits, NaN for empty masks, and which of them are kept."""
    inner, outer = (_areas(logits > threshold) for threshold in (keep.offset, -keep.offset))
    stable = inner.float() / outer
    return stable, stable >= keep.stability if keep.stability > 0 else torch.ones_like(stable, dtype=torch.bool)


def _areas(masks: Tensor) -> Tensor:
    """(M,) pixels of (M, H, W) masks. Sums of short integers take a fraction of the time of longer ones."""
    short = masks.shape[-1] <= torch.iinfo(torch.int16).max
    return masks.sum(-1, dtype=torch.int16 if short else torch.int32).sum(-1, dtype=torch.int32)


def inclusive_boxes(masks: Tensor) -> Tensor:
    """(M, 4) first and last columns and rows of (M, H, W) masks; zeros for empty ones."""
    sides = []
    for axis in (1, 2):  # over rows: columns, then over columns: rows
        seen = masks.any(axis)
        places = torch.arange(seen.shape[1], device=masks.device)
        sides.append(torch.where(seen, places, seen.shape[1]).amin(1))
        sides.append(torch.where(seen, places, -1).amax(1))
    x1, x2, y1, y2 = sides
    return torch.stack([x1, y1, x2, y2], 1) * (x2 >= 0)[:, None]
