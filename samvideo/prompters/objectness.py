"""A head on the features of an image model that predicts where objects are: boxes and how good each is.

Sources: an object prompt network on an encoder's maps, Lite-SAM (Fu et al. 2024, AutoPPN) and AoP-SAM (Chen et al.
2025); boxes as distances from places without anchors, FCOS (Tian et al. 2019); their IoU as score, VarifocalNet
(Zhang et al. 2021).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samvideo.encoders.base import WIDTH
from samvideo.image_model import ImageModel
from samvideo.nn.convnext import ConvNextBlock, GlobalContext
from samvideo.nn.norm import LayerNorm2d
from samvideo.tensors import Features

QUARTER_CELLS = 2
"""Cells of the stride-4 map along a side of a cell of stride 8."""


@dataclass(frozen=True)
class ObjectnessConfig:
    """Shape of the head; less than 1 MB in float16.

    Attributes:
        width: channels at the coarse map and at half its size.
        fine_width: channels at twice its size.
        blocks: at twice, once and half the size of the coarse map.
        prior: objectness of every place where training begins.
        largest: natural logarithm of the longest distance that is predicted, in cells, either way.
    """

    width: int = 96
    fine_width: int = 64
    blocks: tuple[int, int, int] = (2, 3, 2)
    prior: float = 0.02
    largest: float = 5.0


class ObjectPlaces(NamedTuple):
    """What is predicted at the P places of all maps: the centres of their cells, the finer map first.

    Attributes:
        logits: (B, P), objectness before the sigmoid: the expected IoU of a place's box with an object.
        boxes: (B, P, 4), x1, y1, x2, y2 in pixels of the input.
        centres: (P, 2), x and y in pixels of the input.
        strides: (P,), of the map that a place belongs to.
    """

    logits: Tensor
    boxes: Tensor
    centres: Tensor
    strides: Tensor


class ObjectnessHead(nn.Module):
    """Predicts boxes of objects at the size of the coarse map, and of small ones at twice that.

    Args:
        fine_widths: channels of the maps of strides 4 and 8; None for a model without.
        stride: of the coarse map.
        config: shape.
    """

    def __init__(
        self, fine_widths: tuple[int, int] | None, stride: int = 16, config: ObjectnessConfig = ObjectnessConfig()
    ) -> None:
        super().__init__()
        self.stride, self.largest = stride, config.largest
        width, fine = config.width, config.fine_width
        at_fine, at_coarse, at_half = config.blocks
        self.enter = nn.Sequential(nn.Conv2d(WIDTH, width, 1), LayerNorm2d(width))
        self.halve = nn.Conv2d(width, width, 2, stride=2, groups=width)
        context = [*(ConvNextBlock(width, 7) for _ in range(at_half)), GlobalContext(width)]
        self.context = nn.Sequential(*context)
        self.coarse = nn.Sequential(*(ConvNextBlock(width, 7) for _ in range(at_coarse)))
        self.to_fine = nn.Conv2d(width, fine, 1)
        if fine_widths is not None:
            lateral = nn.Conv2d(QUARTER_CELLS**2 * fine_widths[0] + fine_widths[1], fine, 1)
            self.lateral: nn.Module = nn.Sequential(lateral, LayerNorm2d(fine))
        self.fine = nn.Sequential(*(ConvNextBlock(fine, 5) for _ in range(at_fine)))
        self.answers = nn.ModuleList(_answer(channels, config.prior) for channels in (fine, width))

    @classmethod
    def of(cls, model: ImageModel) -> "ObjectnessHead":
        """An untrained head for the features of a model."""
        return cls(model.decoder.projected_widths if model.encoder.fine else None, model.encoder.stride)

    def forward(self, features: Features) -> ObjectPlaces:
        """Predict from the features of B images."""
        x = self.enter(features.coarse)
        size = x.shape[-2:]
        halved = self.context(self.halve(F.pad(x, (0, size[1] % 2, 0, size[0] % 2), "replicate")))
        x = self.coarse(x + _double(halved)[..., : size[0], : size[1]])
        y = _double(self.to_fine(x))
        if features.fine:
            quarter, eighth = features.fine
            y = y + self.lateral(torch.cat([F.pixel_unshuffle(quarter, QUARTER_CELLS), eighth], 1))
        maps = [(self.fine(y), self.stride // 2), (x, self.stride)]
        levels = [
            _places(answer(values), stride, self.largest)
            for answer, (values, stride) in zip(self.answers, maps, strict=True)
        ]
        logits, boxes, centres, strides = zip(*levels, strict=True)
        return ObjectPlaces(torch.cat(logits, 1), torch.cat(boxes, 1), torch.cat(centres), torch.cat(strides))


def _answer(width: int, prior: float) -> nn.Sequential:
    """From features to objectness, `prior` at first, and the logarithms of four distances in cells."""
    last = nn.Conv2d(width, 5, 1)
    nn.init.normal_(last.weight, std=0.01)
    last.bias = nn.Parameter(torch.tensor([math.log(prior / (1 - prior)), 1.0, 1.0, 1.0, 1.0]))
    return nn.Sequential(LayerNorm2d(width), nn.GELU(), last)


def _places(answer: Tensor, stride: int, largest: float) -> ObjectPlaces:
    """The predictions of a map (B, 5, h, w): objectness, and the distances to the four sides of the box."""
    height, width = answer.shape[-2:]
    y, x = torch.meshgrid(*(torch.arange(n, device=answer.device) for n in (height, width)), indexing="ij")
    centres = (torch.stack([x, y], -1).flatten(0, 1) + 0.5) * stride
    flat = answer.flatten(2).mT.float()
    sides = stride * flat[..., 1:].clamp(-largest, largest).exp()
    boxes = torch.cat([centres - sides[..., :2], centres + sides[..., 2:]], -1)
    return ObjectPlaces(flat[..., 0], boxes, centres, torch.full_like(x, stride).flatten())


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
