"""What every automatic prompter promises (samvideo.prompters.base.AutoPrompter)."""

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import pytest
import torch
from tiny_sam import tiny_model

from samvideo.prompters.base import AutoPrompter, MaskFilter, MaskProposal
from samvideo.prompters.boxes import BoxesPrompter, Detections
from samvideo.prompters.decoding import PromptedPart
from samvideo.prompters.grid import GridConfig, GridPrompter
from samvideo.prompters.hierarchical import HierarchicalConfig, HierarchicalPrompter
from samvideo.prompters.learned import LearnedConfig, LearnedPrompter
from samvideo.prompters.objectness import ObjectnessHead
from samvideo.segmenters.image_model import ImageModelSegmenter
from samvideo.types import Box, Points, UInt8Array
from tests.scenes import RED, Shape, scene

ALL = MaskFilter(0.0, 0.0)
PICTURE = scene(1, Shape(lambda index: (60, 55), 20, RED))[0][0].rgb
EMPTY = np.zeros_like(PICTURE)


def embed(rgb: UInt8Array, part: tuple[int, int, int, int]) -> PromptedPart:
    return PromptedPart(segmenter().model, rgb, part)


@cache
def segmenter() -> ImageModelSegmenter:
    return ImageModelSegmenter(tiny_model())


def halves(rgb: UInt8Array) -> Detections:
    height, width = rgb.shape[:2]
    boxes = [(0, 0, width / 2, height), (-5, height / 4, width, height), (width, 0, 2 * width, height)]
    return Detections(np.array(boxes, np.float32), np.array([0.9, 0.8, 0.7], np.float32), ("a", "b", "c"))


def learned() -> AutoPrompter:
    torch.manual_seed(0)
    head = ObjectnessHead.of(segmenter().model)
    return LearnedPrompter(segmenter(), head, LearnedConfig(least=0.0, quality=-9.0, proposals=8))


MAKERS: Mapping[str, Callable[[], AutoPrompter]] = {
    "grid": lambda: GridPrompter(embed, GridConfig(points=4, keep=ALL, crop_layers=1)),
    "hierarchical": lambda: HierarchicalPrompter(embed, HierarchicalConfig(points=8, keep=ALL)),
    "boxes": lambda: BoxesPrompter(embed, halves),
    "learned": learned,
}


@cache
def made(name: str) -> AutoPrompter:
    return MAKERS[name]()


def same(one: MaskProposal, other: MaskProposal) -> bool:
    return np.array_equal(one.mask, other.mask) and one.quality == other.quality and one.prompt == other.prompt


@pytest.mark.parametrize("name", MAKERS)
def test_proposals_fit_their_image(name: str) -> None:
    height, width = PICTURE.shape[:2]
    found = made(name).propose(PICTURE)
    assert found
    for one in found:
        assert one.mask.shape == (height, width)
        assert one.mask.dtype == bool
        assert np.isfinite(one.quality)
        x1, y1, x2, y2 = one.crop
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height
        assert one.area == one.mask.sum()
        assert isinstance(one.prompt, Box | Points)
        places = np.array(one.prompt.xyxy if isinstance(one.prompt, Box) else one.prompt.xy).reshape(-1, 2)
        assert ((places >= 0) & (places <= (width, height))).all()


@pytest.mark.parametrize("name", MAKERS)
def test_the_same_image_has_the_same_proposals(name: str) -> None:
    first, second = (made(name).propose(PICTURE) for _ in range(2))
    assert len(first) == len(second)
    assert all(map(same, first, second))


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("size_hw", [(1, 1), (1, 37), (51, 33)])
def test_any_image_is_searched(name: str, size_hw: tuple[int, int]) -> None:
    for rgb in (EMPTY, PICTURE):
        part = np.ascontiguousarray(rgb[: size_hw[0], : size_hw[1]])
        assert all(one.mask.shape == size_hw for one in made(name).propose(part))
