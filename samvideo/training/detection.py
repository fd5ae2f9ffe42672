"""What a head that finds objects learns: which places answer for an object, and the losses of all.

Sources: a few places around the centre of an object answer for it, FCOS (Tian et al. 2019, 2020); their target is
the IoU of their box, the others' is zero, with a focal weight, VarifocalNet (Zhang et al. 2021); GIoU loss of boxes
(Rezatofighi et al. 2019).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from samvideo.prompters.objectness import ObjectPlaces


@dataclass(frozen=True)
class DetectionConfig:
    """Assignment and weights.

    Attributes:
        radius: of the region around the centre of an object's box whose places answer for it, in cells.
        small: objects whose longer side is at most this many pixels are also on the finer map.
        large: those of at least this many are also on the coarse map.
        focus: exponent of the focal weight of places without an object.
        negative: factor on it.
        box: factor on the loss of boxes.
    """

    radius: float = 1.5
    small: float = 128.0
    large: float = 64.0
    focus: float = 2.0
    negative: float = 0.75
    box: float = 2.0


def assigned(places: ObjectPlaces, boxes: Tensor, config: DetectionConfig) -> Tensor:
    """Which object each place answers for, the smallest of several: int64 (B, P), -1 for none.

    Args:
        places: predictions for B images.
        boxes: (B, O, 4) of objects, x1, y1, x2, y2 in pixels of the input; those without an area are none.
        config: see there.
    """
    stride = places.strides[None, :, None]
    sides = boxes[..., 2:] - boxes[..., :2]
    centres = (boxes[..., 2:] + boxes[..., :2]) / 2
    # a place has to be in the box as well, but an object of less than a cell has a place, too
    reach = torch.minimum(
        config.radius * stride[..., None], torch.maximum(sides[:, None], stride[..., None].expand(1, -1, 1, 1)) / 2
    )
    near = ((places.centres[None, :, None] - centres[:, None]).abs() <= reach).all(-1)
    longest = sides.amax(-1)[:, None]
    fits = torch.where(stride < stride.amax(), longest <= config.small, longest >= config.large)
    areas = sides.prod(-1)[:, None].expand(near.shape)
    areas = areas.masked_fill(~(near & fits & (areas > 0)), torch.inf)
    least, index = areas.min(-1)
    return index.masked_fill(least.isinf(), -1)


def detection_losses(places: ObjectPlaces, boxes: Tensor, config: DetectionConfig) -> Mapping[str, Tensor]:
    """Losses of objectness and boxes, and the mean IoU of the boxes of places that answer for an object.

    Not all objects of a picture are annotated, so that a place without one may well be right: the surer it is, the
    less it counts.
    """
    index = assigned(places, boxes, config)
    image, place = (index >= 0).nonzero(as_tuple=True)
    overlap, enclosed = overlaps(places.boxes[image, place], boxes[image, index[image, place]])
    target = torch.zeros_like(places.logits).index_put((image, place), overlap.detach().clamp(min=0))
    count = max(1, len(image))
    score = places.logits.detach().sigmoid()
    weight = torch.where(index >= 0, target, config.negative * score**config.focus * (1 - score))
    objectness = F.binary_cross_entropy_with_logits(places.logits, target, weight, reduction="sum") / count
    measured = {"IoU": overlap.detach().mean()} if len(image) else {}
    return {"objectness": objectness, "boxes": config.box * (1 - enclosed).sum() / count, **measured}


def overlaps(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU of pairs of boxes (N, 4), x1, y1, x2, y2: (N,) each."""
    shared = (torch.minimum(boxes[:, 2:], others[:, 2:]) - torch.maximum(boxes[:, :2], others[:, :2])).clamp(min=0)
    around = torch.maximum(boxes[:, 2:], others[:, 2:]) - torch.minimum(boxes[:, :2], others[:, :2])
    union = sum((part[:, 2:] - part[:, :2]).prod(1) for part in (boxes, others)) - shared.prod(1)
    iou = shared.prod(1) / union
    return iou, iou - 1 + union / around.prod(1)
