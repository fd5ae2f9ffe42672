"""Simulated prompts: boxes and clicks as users give them, from true masks, on the device of the masks."""

import torch
import torch.nn.functional as F
from torch import Tensor

from samvideo.tensors import PromptTensors

STRIDE = 4
"""Pixels of the input per pixel of the masks from which clicks are drawn."""
BOX, PAD = (2, 3), -1
BOX_JITTER = 0.04
"""Standard deviation of each side of a box, as a share of its length."""
EXACT_BOXES = CENTRED_CLICKS = 0.4
"""Share of boxes that fit exactly, and of clicks that are in the middle of the object."""
INTERIOR = 4.0
"""Exponent of a place's distance from the edge in the probability that a click falls there."""


def boxes(masks_bhw: Tensor) -> Tensor:
    """(B, 4) x1, y1, x2, y2 around masks, jittered as people draw; pixels of the input."""
    x1, x2 = _extent(masks_bhw.amax(1))
    y1, y2 = _extent(masks_bhw.amax(2))
    exact = torch.stack([x1, y1, x2, y2], 1) * STRIDE
    size = torch.stack([x2 - x1, y2 - y1], 1).repeat(1, 2) * STRIDE
    draw = torch.randn(exact.shape, device=exact.device).clamp(-2.5, 2.5) * BOX_JITTER
    draw = draw * (torch.rand(len(draw), 1, device=draw.device) > EXACT_BOXES)
    return exact + draw * size


def _extent(covered: Tensor) -> tuple[Tensor, Tensor]:
    """First covered place, and the one after the last, of (B, n)."""
    places = torch.arange(covered.shape[1], device=covered.device)
    inside = covered > 0.5
    first = torch.where(inside, places, covered.shape[1]).amin(1)
    last = torch.where(inside, places + 1, 0).amax(1)
    return first.clamp(max=covered.shape[1] - 1).float(), torch.maximum(last, first + 1).float()


def clicks(region_bhw: Tensor) -> Tensor:
    """(B, 2) x and y of a place inside each region, more likely far from its edge; pixels of the input."""
    region = (region_bhw > 0.5).float()[:, None]
    depth = region
    for _ in range(3):
        depth = F.avg_pool2d(depth, 9, 1, 4) * region
    depth = (depth / depth.amax((2, 3), keepdim=True).clamp(min=1e-6)) ** INTERIOR
    weights = depth.flatten(1) + 1e-9
    drawn = torch.multinomial(weights, 1)[:, 0]
    centred = torch.rand(len(drawn), device=drawn.device) < CENTRED_CLICKS
    place = torch.where(centred, weights.argmax(1), drawn)
    width = region.shape[-1]
    return (torch.stack([place % width, place // width], 1) + 0.5) * STRIDE - 0.5


def box_prompts(masks_bhw: Tensor) -> PromptTensors:
    """Boxes around masks as two corners each."""
    labels = torch.tensor([BOX], device=masks_bhw.device).expand(len(masks_bhw), -1)
    return PromptTensors(boxes(masks_bhw).view(-1, 2, 2), labels)


def click_prompts(masks_bhw: Tensor) -> PromptTensors:
    """One click inside of each mask."""
    return PromptTensors(clicks(masks_bhw)[:, None], torch.ones(len(masks_bhw), 1, device=masks_bhw.device).long())


def corrected(prompts: PromptTensors, logits_bhw: Tensor, masks_bhw: Tensor) -> PromptTensors:
    """The prompts and a click where the prediction errs most: on the object, or beside it."""
    wrong = ((logits_bhw > 0) != (masks_bhw > 0.5)).float()
    missed, extra = wrong * masks_bhw, wrong * (1 - masks_bhw)
    on_object = missed.sum((1, 2)) > extra.sum((1, 2))
    xy = clicks(torch.where(on_object[:, None, None], missed, extra))
    label = torch.where(wrong.sum((1, 2)) > 0, on_object.long(), PAD)
    return PromptTensors(torch.cat([prompts.xy, xy[:, None]], 1), torch.cat([prompts.labels, label[:, None]], 1))


def either(first_b: Tensor, first: PromptTensors, second: PromptTensors) -> PromptTensors:
    """The first prompts where (B,) `first_b` says so, else the second, which have fewer points; padded."""
    missing = first.labels.shape[1] - second.labels.shape[1]
    xy, labels = F.pad(second.xy, (0, 0, 0, missing)), F.pad(second.labels, (0, missing), value=PAD)
    return PromptTensors(
        torch.where(first_b[:, None, None], first.xy, xy), torch.where(first_b[:, None], first.labels, labels)
    )


def rough_logits(mask_bhw: Tensor) -> Tensor:
    """(B, 1, h, w) logits of an imperfect earlier answer: smooth noise moves the edge by a few pixels or more."""
    mask = mask_bhw[:, None]
    strength = torch.rand(len(mask), 1, 1, 1, device=mask.device)
    noise = torch.randn(len(mask), 1, 6, 6, device=mask.device)
    noise = F.interpolate(noise, size=mask.shape[-2:], mode="bicubic", align_corners=False)
    blurred = F.avg_pool2d(F.avg_pool2d(mask, 7, 1, 3), 7, 1, 3)
    return 8 * (2 * blurred - 1) + 6 * strength * noise
