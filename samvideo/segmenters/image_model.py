"""Any image or video model of the SAM family as a segmenter. Needs torch."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from samvideo.heads.masks import single_if_stable, stability
from samvideo.image_model import ImageModel
from samvideo.models import MEMORY_BIAS, MEMORY_SCALE
from samvideo.object_prompts import ObjectPrompt
from samvideo.picture_sizes import fitted_wh, prompt_scale
from samvideo.pictures import to_picture
from samvideo.segmenters.base import Chooser, EmbeddedImage, Previous, Segmentation, by_quality, mask_of
from samvideo.tensors import Features, MaskCandidates, PromptTensors
from samvideo.torch_runtime import resize_mask, resolve_device
from samvideo.types import BoolArray, UInt8Array, image_wh
from samvideo.windows import Detail, decode_prompts

BATCH = 64
"""Objects that are decoded at once."""
RATING_OFFSET = 1.0
"""Change of the threshold by which the stability of masks is measured where it rates them (EdgeSAM)."""


class ImageModelSegmenter:
    """Segments with a SAM; implements `samvideo.segmenters.base.Segmenter`.

    An ambiguous prompt, a single click, gives three candidates, any other one (see `samvideo.specs.Answer`).

    Args:
        model: is moved, put in evaluation mode and fused, all in place.
        device, dtype: where and how to compute; see `samvideo.torch_runtime.resolve_device`.
        choose: chooses among the candidates of an object.
    """

    lookahead = 0

    def __init__(
        self,
        model: ImageModel,
        *,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype = "fp32",
        choose: Chooser = by_quality,
    ) -> None:
        where = resolve_device(device, dtype)
        model.eval().fuse()
        self.model = model.convert(*where)
        self._choose = choose

    @torch.inference_mode()
    def embed(self, rgb: UInt8Array, upcoming: UInt8Array | None = None) -> "ModelImage":
        """See `Segmenter.embed`."""
        size_wh = image_wh(rgb)
        features = self.model.encode(self.model.preprocess(rgb))
        return ModelImage(self.model, features, size_wh, self._choose, rgb)


class ModelImage(EmbeddedImage):
    """An image encoded by a SAM."""

    def __init__(
        self, model: ImageModel, features: Features, size_wh: tuple[int, int], choose: Chooser, rgb: UInt8Array
    ) -> None:
        super().__init__(size_wh, choose)
        self._rgb = None if model.spec.window is None else rgb
        self._model, self.features, self._spec = model, features, model.spec_for(size_wh)

    def _candidates(
        self, prompts: Sequence[ObjectPrompt], previous: Mapping[int, Previous], multimask: bool | None
    ) -> list[Segmentation]:
        """Prompts with equal numbers of points are decoded together."""
        groups: dict[tuple[int, bool, bool], list[int]] = defaultdict(list)
        for row, prompt in enumerate(prompts):
            before = mask_of(previous.get(prompt.object_id))
            corrects = before is not None and bool(before.any())
            groups[len(prompt.labels), prompt.box is not None, corrects].append(row)
        found: dict[int, Segmentation] = {}
        for (_, _, corrects), rows in groups.items():
            for begin in range(0, len(rows), BATCH):
                part = [prompts[row] for row in rows[begin : begin + BATCH]]
                earlier = [previous[p.object_id] for p in part] if corrects else None
                found.update(zip(rows[begin : begin + BATCH], self._decode(part, earlier, multimask), strict=True))
        return [found[row] for row in range(len(prompts))]

    @torch.inference_mode()
    def _decode(
        self, prompts: Sequence[ObjectPrompt], previous: Sequence[Previous] | None, multimask: bool | None
    ) -> list[Segmentation]:
        model = self._model
        points = self._points(prompts)
        logits = None if previous is None else torch.stack([self._logits(p) for p in previous]).to(model.device)
        embedding = model.embedding(self.features).expand(len(prompts), -1, -1, -1)
        ambiguous = previous is None and points.labels.shape[1] <= 1 if multimask is None else multimask
        found = decode_prompts(model, self._rgb, self.features, lambda: embedding, points, logits, ambiguous)
        kept, quality = answers(found.candidates, model.spec.answer, ambiguous)
        segmentations = []
        for row, (prompt, index, rating) in enumerate(zip(prompts, kept, quality, strict=True)):
            low = found.candidates.logits_bnhw[row, index]
            masks = self._masks(low, found.details[row].take(index) if found.details else None)
            segmentations.append(Segmentation(prompt.object_id, masks, rating.cpu().numpy(), low.cpu().numpy()))
        return segmentations

    def _points(self, prompts: Sequence[ObjectPrompt]) -> PromptTensors:
        """Boxes, as two corners, and clicks of B objects in the frame of prompts."""
        xy, labels = (np.array(rows) for rows in zip(*(prompt.points for prompt in prompts), strict=True))
        xy = (xy * prompt_scale(self.size_wh, self._spec)).astype(np.float32)
        return PromptTensors(*(torch.from_numpy(values).to(self._model.device) for values in (xy, labels)))

    def _logits(self, previous: Previous) -> Tensor:
        """(1, 4 h, 4 w): what a prompt corrects, as the decoder's own logits."""
        height, width = (4 * side for side in self.features.grid)
        logits = previous.logits_nhw if isinstance(previous, Segmentation) else None
        if isinstance(previous, Segmentation) and logits is not None and logits.shape[1:] == (height, width):
            return torch.from_numpy(logits[previous.chosen])[None]
        mask = mask_of(previous)
        assert mask is not None
        side = max(width, height)
        if self._spec.picture.fit == "stretch":
            return resize_mask(mask, (width, height))[0] * MEMORY_SCALE + MEMORY_BIAS
        fitted = fitted_wh(self.size_wh, side, self._spec.picture)
        canvas = torch.zeros(1, height, width)
        canvas[:, : fitted[1], : fitted[0]] = resize_mask(mask, fitted)[0]
        return canvas * MEMORY_SCALE + MEMORY_BIAS

    def _masks(self, low: Tensor, detail: Detail | None) -> BoolArray:
        """(N, h, w) logits, or what is finer, to (N, H, W) masks at the size of the image."""
        whole = to_picture(low[None], self.size_wh, self._spec)[0] if detail is None else detail.paste(self.size_wh)
        masks: BoolArray = (whole > 0).cpu().numpy()
        return masks


def answers(candidates: MaskCandidates, answer: str, ambiguous: bool) -> tuple[Tensor, Tensor]:
    """The candidates that answer a prompt: (B, M) indices and ratings, M 3 or 1; see `Answer`."""
    quality = candidates.quality_bn
    if answer == "stability":
        shape = candidates.logits_bnhw.shape
        quality = stability(candidates.logits_bnhw.flatten(0, 1), RATING_OFFSET).view(shape[:2])
    if (ambiguous or answer == "alternatives") and quality.shape[1] > 1:  # RWKV-SAM has one mask only
        index = torch.arange(1, quality.shape[1], device=quality.device).expand(len(quality), -1)
        return index, quality[:, 1:]
    chosen = torch.zeros(len(quality), dtype=torch.long, device=quality.device)
    if answer == "stable":
        chosen = single_if_stable(candidates)
    return chosen[:, None], quality.gather(1, chosen[:, None])
