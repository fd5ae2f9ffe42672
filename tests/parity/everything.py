"""Automatic prompters on the pictures of the fixtures: the masks of the published generators, in their order."""

from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from samvideo.image_model import ImageModel
from samvideo.io.masks import decode_rle
from samvideo.prompters.base import AutoPrompter, MaskFilter, MaskProposal
from samvideo.prompters.boxes import BoxesPrompter, Detections
from samvideo.prompters.decoding import PromptedPart
from samvideo.prompters.grid import GridConfig, GridPrompter
from samvideo.prompters.hierarchical import HierarchicalConfig, HierarchicalPrompter
from samvideo.types import UInt8Array

PIXELS = 1e-3  # of a mask, that may differ
RATINGS = 1e-3


def prompter(model: ImageModel, fixture: Mapping[str, Any]) -> AutoPrompter:
    """The prompter with the settings of a fixture."""

    def embed(rgb: UInt8Array, part: tuple[int, int, int, int]) -> PromptedPart:
        return PromptedPart(model, rgb, part)

    if "boxes" in fixture:
        boxes = np.array(fixture["boxes"], np.float32)
        return BoxesPrompter(embed, lambda rgb: Detections(boxes))
    given = fixture["settings"]
    keep = MaskFilter(given["pred_iou_thresh"], given["stability_score_thresh"])
    shared = {"points": given["points_per_side"], "keep": keep, "box_overlap": given["box_nms_thresh"]}
    if "high_score_thresh" in given:
        return HierarchicalPrompter(embed, HierarchicalConfig(**shared, sure=given["high_score_thresh"]))
    config = GridConfig(
        **shared,
        crop_layers=given.get("crop_n_layers", 0),
        fewer_points=given.get("crop_n_points_downscale_factor", 1),
        crop_box_overlap=given.get("crop_nms_thresh", 0.7),
        least_region=given.get("min_mask_region_area", 0),
    )
    return GridPrompter(embed, config)


def faults(model: ImageModel, fixture: Mapping[str, Any], seeded: ModuleType) -> Iterator[str]:
    """What differs, in words."""
    frame, size, y, x, height, width = fixture["picture"]
    rgb = np.ascontiguousarray(seeded.seeded_frame(frame, size)[y : y + height, x : x + width])
    found, expected = prompter(model, fixture).propose(rgb), fixture["masks"]
    if len(found) != len(expected):
        yield f"{len(expected)} masks expected, not {len(found)}"
    for number, (one, other) in enumerate(zip(found, expected, strict=False)):
        yield from (f"mask {number}: {fault}" for fault in _differences(one, other))


def _differences(found: MaskProposal, expected: Mapping[str, Any]) -> Iterator[str]:
    mask = decode_rle(expected["segmentation"])
    off = int((mask != found.mask).sum())
    if off > PIXELS * mask.size:
        yield f"{off} of {mask.size} pixels differ"
    for key, value in (("predicted_iou", found.quality), ("stability_score", found.stability)):
        if key in expected and not abs(value - expected[key]) <= RATINGS:
            yield f"{key} {expected[key]:.4f} expected, not {value:.4f}"
    if "point_coords" in expected and not np.allclose(found.prompt.xy, expected["point_coords"]):
        yield f"click {expected['point_coords']} expected, not {found.prompt.xy}"
    if "crop_box" in expected:
        x1, y1, x2, y2 = found.crop
        if [x1, y1, x2 - x1, y2 - y1] != expected["crop_box"]:
            yield f"crop {expected['crop_box']} expected, not {found.crop}"
