"""SqueezeSAM's answers to the prompts of a fixture, under the names that the fixture uses."""

from types import ModuleType
from typing import Any

import numpy as np
import torch

from samvideo.networks.squeeze_sam import SqueezeSam
from samvideo.pictures import prompt_scale, to_picture
from samvideo.segmenters.squeeze_sam import SqueezeSamSegmenter
from samvideo.tensors import PromptTensors

Arrays = dict[str, np.ndarray]
SIDE = 512
"""Of the square picture; the coordinates of its prompts are of one of 256 pixels."""


@torch.inference_mode()
def run(network: SqueezeSam, fixture: Arrays, prompts: dict[str, Any], seeded: ModuleType) -> Arrays:
    """Compute every entry of `squeezesam--prompts.npz`."""
    segmenter = SqueezeSamSegmenter(network)
    square, wide = prompts["square"], prompts["wide"]
    out: Arrays = {}
    rgb = seeded.picture(square["frame"], SIDE)
    for name, prompt in square["prompts"].items():
        if f"square/{name}/iou" in fixture:
            inputs, low, quality = answer(segmenter, rgb, prompt, SIDE / 256)
            out[f"square/{name}/low_res"] = low[:, ::5, ::5].numpy()
            out[f"square/{name}/area"] = (low > 0).sum((1, 2)).numpy()
            out[f"square/{name}/iou"] = quality.numpy()
            out[f"square/{name}/prompt_area"] = inputs[3:].sum((1, 2)).long().numpy()
    rgb = seeded.picture(*wide["picture"])
    for name, prompt in wide["prompts"].items():
        inputs, low, quality = answer(segmenter, rgb, prompt, 1)
        logits = to_picture(low[None], rgb.shape[1::-1], segmenter.spec)[0]
        out.setdefault("wide/input", inputs[:, 3::23, 3::23].numpy())
        out[f"wide/{name}/logits"] = logits[:, ::17, ::17].numpy()
        out[f"wide/{name}/area"] = (logits > 0).sum((1, 2)).numpy()
        out[f"wide/{name}/iou"] = quality.numpy()
    return out


def answer(
    segmenter: SqueezeSamSegmenter, rgb: np.ndarray, prompt: dict[str, Any], scale: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Input, low-resolution logits and predicted IoU of a prompt, whose coordinates times `scale` are pixels."""
    image = segmenter.embed(rgb)
    corners = np.array(prompt.get("box", []), np.float32).reshape(-1, 2)
    xy = np.concatenate([corners, np.array(prompt.get("points", []), np.float32).reshape(-1, 2)])
    labels = [2, 3][: len(corners)] + prompt.get("labels", [])
    at = torch.from_numpy(
        xy * np.float32(scale) * np.array(prompt_scale(image.size_wh, segmenter.spec), np.float32)
    )
    inputs = image.inputs([PromptTensors(at[None], torch.tensor([labels]))])
    logits, quality = segmenter.network(inputs)
    return inputs[0], logits[0], quality[0]
