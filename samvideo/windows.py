"""Prompted objects in windows of their own: a square around each, at the resolution that a small object needs.

A box or an earlier mask says where the window is; for clicks alone, a first mask in the whole picture does.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from samvideo.geometry import Window, cut, prompt_window
from samvideo.heads.masks import best_alternative
from samvideo.heads.prompt_encoder import FIRST_CORNER
from samvideo.image_model import ImageModel
from samvideo.pictures import to_input
from samvideo.specs import ModelSpec
from samvideo.tensors import Features, MaskCandidates, PromptTensors
from samvideo.types import UInt8Array, image_wh

OUTSIDE = -10.0
"""Logit outside of a window, and of the picture."""
BATCH = 16
"""Windows are encoded at most so many at a time, so that peak memory is bounded."""


class Detail(NamedTuple):
    """Logits (N, s, s) of one object in its window, finer than those of the whole picture."""

    logits_nhw: Tensor
    window: Window

    def take(self, index_m: Tensor) -> "Detail":
        """Some of the N, which keep nothing else alive."""
        return Detail(self.logits_nhw[index_m], self.window)

    def paste(self, size_wh: tuple[int, int]) -> Tensor:
        """(N, H, W) logits of a picture of `size_wh`, negative outside of the window."""
        width, height = size_wh
        x, y, side = self.window
        x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + side, width), min(y + side, height)
        whole = self.logits_nhw.new_full((len(self.logits_nhw), height, width), OUTSIDE)
        region = self.logits_nhw.new_tensor([self.window.shares_of((x1, y1, x2, y2))])
        whole[:, y1:y2, x1:x2] = sample(self.logits_nhw[None], region, (y2 - y1, x2 - x1))[0]
        return whole


class Proposals(NamedTuple):
    """Mask candidates of B objects in the whole picture and, where they come of windows, B details."""

    candidates: MaskCandidates
    details: tuple[Detail, ...] = ()


def window_spec(spec: ModelSpec) -> ModelSpec:
    """The spec for windows as whole pictures; the same spec where a model has none."""
    if spec.window is None:
        return spec
    size = (spec.window, spec.window)
    return replace(spec, input_wh=size, window=None, picture=replace(spec.picture, fit="stretch"))


def sample(maps_bnhw: Tensor, regions_b4: Tensor, size_hw: tuple[int, int], outside: float = OUTSIDE) -> Tensor:
    """Regions of maps at another size, bilinear: (B, N, *size_hw).

    Args:
        maps_bnhw: of B objects.
        regions_b4: (B, 4) x1, y1, x2, y2 in shares of the map's sides.
        size_hw: height and width of the result.
        outside: value where a region is outside of its map.
    """
    x1, y1, x2, y2 = regions_b4.to(maps_bnhw.dtype).unbind(1)
    nothing = torch.zeros_like(x1)
    across, down = torch.stack([x2 - x1, nothing, x1 + x2 - 1], 1), torch.stack([nothing, y2 - y1, y1 + y2 - 1], 1)
    grid = F.affine_grid(torch.stack([across, down], 1), [len(regions_b4), 1, *size_hw], align_corners=False)
    found = F.grid_sample(maps_bnhw, grid, padding_mode="border", align_corners=False)
    return torch.where((grid.abs() <= 1).all(3)[:, None], found, outside)


def decode_prompts(
    model: ImageModel,
    rgb: UInt8Array | None,
    features: Features,
    embedding: Callable[[], Tensor],
    points: PromptTensors,
    earlier: Tensor | None,
    ambiguous: bool,
) -> Proposals:
    """Decode the prompts of B objects, in windows where the model has them.

    Args:
        model: `ModelSpec.window` says whether and at what size.
        rgb: the picture; needed only by models with windows.
        features: of the picture.
        embedding: makes the (B, C, h, w) embedding of the whole picture, which a box or mask makes needless.
        points: as in `ImageModel.decode`; either all objects have a box, as the first two points, or none.
        earlier: (B, 1, 4 h, 4 w) logits that the prompts correct.
        ambiguous: whether the alternatives count.
    """
    if model.spec.window is None:
        return Proposals(model.decode(features, embedding(), points, earlier))
    assert rgb is not None
    boxed = points.labels.shape[1] > 1 and bool((points.labels[:, 0] == FIRST_CORNER).all())
    if earlier is not None and not bool((earlier > 0).any()):
        earlier = None
    if earlier is None and not boxed:
        earlier = _best(model.decode(features, embedding(), points), ambiguous)
    width, height = image_wh(rgb)
    own = model.input_wh(features)
    xy = points.xy * points.xy.new_tensor([width / own[0], height / own[1]])
    windows = _windows(xy, boxed, earlier, (width, height))
    parts = []
    for begin in range(0, len(windows), BATCH):
        part = slice(begin, begin + BATCH)
        logits = None if earlier is None else earlier[part]
        parts.append(_decode(model, rgb, windows[part], PromptTensors(xy[part], points.labels[part]), logits))
    inside = MaskCandidates(*(torch.cat(values) for values in zip(*parts, strict=True)))
    regions = xy.new_tensor([window.shares_of((0, 0, width, height)) for window in windows])
    rows, columns = (4 * side for side in features.grid)
    whole = sample(inside.logits_bnhw, regions, (rows, columns))
    details = map(Detail, inside.logits_bnhw, windows)
    return Proposals(inside._replace(logits_bnhw=whole), tuple(details))


def _best(candidates: MaskCandidates, ambiguous: bool) -> Tensor:
    """(B, 1, h, w) logits of the best alternative or, where that is not asked for, of the first mask."""
    if not ambiguous or candidates.quality_bn.shape[1] == 1:
        return candidates.logits_bnhw[:, :1]
    best = best_alternative(candidates)
    return candidates.logits_bnhw[torch.arange(len(best), device=best.device), best][:, None]


def _windows(xy: Tensor, boxed: bool, earlier: Tensor | None, size_wh: tuple[int, int]) -> list[Window]:
    """Around the points of each object, in pixels of the picture, and the mask that they correct."""
    masks = [None] * len(xy) if earlier is None else list(earlier[:, 0].cpu().numpy() > 0)
    return [
        prompt_window(points, boxed, mask, size_wh) for points, mask in zip(xy.cpu().numpy(), masks, strict=True)
    ]


def _decode(
    model: ImageModel, rgb: UInt8Array, windows: Sequence[Window], points: PromptTensors, earlier: Tensor | None
) -> MaskCandidates:
    """Decode objects in their windows; points are in pixels of the picture, `earlier` logits of all of it."""
    spec = window_spec(model.spec)
    size = spec.input_wh[0]
    images = torch.cat([to_input(cut(rgb, window), spec, model.device) for window in windows])
    features = model.encode(images.to(model.dtype, memory_format=torch.channels_last))
    origins = points.xy.new_tensor([(window.x, window.y) for window in windows])
    scales = points.xy.new_tensor([size / window.side for window in windows])
    xy = (points.xy - origins[:, None]) * scales[:, None, None]
    if earlier is not None:
        rows, columns = (4 * side for side in features.grid)
        regions = points.xy.new_tensor([window.shares(image_wh(rgb)) for window in windows])
        earlier = sample(earlier, regions, (rows, columns))
    embedding = model.embedding(features).expand(len(windows), -1, -1, -1)
    return model.decode(features, embedding, PromptTensors(xy, points.labels), earlier)
