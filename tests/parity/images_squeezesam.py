"""SqueezeSAM's answers to the prompts of a fixture, under the names that the fixture uses."""

from types import ModuleType
from typing import Any

import numpy as np
import torch
from images import prompt_points, sampled

from samvideo.networks.squeeze_sam import SqueezeSam
from samvideo.picture_sizes import prompt_scale
from samvideo.pictures import to_picture
from samvideo.segmenters.squeeze_sam import SqueezeSamSegmenter

Arrays = dict[str, np.ndarray]
SIDE = 512
"""Of the square picture; the coordinates of its prompts are of one of 256 pixels."""


@torch.inference_mode()
def run(network: SqueezeSam, fixture: Arrays, prompts: dict[str, Any], seeded: ModuleType) -> Arrays:
    """Compute every entry of `squeezesam--prompts.npz`."""
    segmenter = SqueezeSamSegmenter(network)
    out: Arrays = {}
    for place, entry in prompts.items():
        whole = "frame" in entry
        rgb = seeded.picture(*([entry["frame"], SIDE] if whole else entry["picture"]))
        for name, prompt in entry["prompts"].items():
            key = f"{place}/{name}"
            if f"{key}/iou" not in fixture:
                continue
            inputs, low, quality = answer(segmenter, rgb, prompt, SIDE / 256 if whole else 1)
            masks = low if whole else to_picture(low[None], rgb.shape[1::-1], segmenter.spec)[0]
            out.setdefault(f"{place}/input", inputs[:, 3::23, 3::23].numpy())
            out[f"{key}/area"] = (masks > 0).sum((1, 2)).numpy()
            out[f"{key}/iou"] = quality.numpy()
            out[f"{key}/prompt_area"] = inputs[3:].sum((1, 2)).long().numpy()
            logits = f"{key}/low_res" if whole else f"{key}/logits"
            if logits in fixture:
                out[logits] = sampled(masks.numpy(), fixture[logits].shape)
    return out


def answer(
    segmenter: SqueezeSamSegmenter, rgb: np.ndarray, prompt: dict[str, Any], scale: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Input, low-resolution logits and predicted IoU of a prompt, whose coordinates times `scale` are pixels."""
    image = segmenter.embed(rgb)
    across, down = prompt_scale(image.size_wh, segmenter.spec)
    points = prompt_points(prompt, (across * scale, down * scale))
    assert points is not None
    inputs = image.inputs([points])
    logits, quality = segmenter.network(inputs)
    return inputs[0], logits[0], quality[0]
