"""RAP-SAM's answers to the prompts of a fixture, under the names that the fixture uses."""

from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samvideo.networks.rap_sam import RapSam
from samvideo.object_prompts import group_prompts
from samvideo.segmenters.rap_sam import RapSamSegmenter, fitted, query_boxes, to_input, to_picture
from samvideo.specs import IMAGE_SPECS, ModelSpec
from samvideo.types import Box, Points, Prompt

Arrays = dict[str, np.ndarray]


@torch.inference_mode()
def run(network: RapSam, fixture: Arrays, prompts: dict[str, Any], seeded: ModuleType) -> Arrays:
    """Compute every entry of `rap-sam-r50--prompts.npz`."""
    wide = IMAGE_SPECS["rap-sam-r50"]
    side = prompts["square"]["size"]
    square = replace(wide, input_wh=(side, side))  # nothing is resized
    RapSamSegmenter(network)
    classes = torch.from_numpy(seeded.rap_sam_classes())
    return _square(network, square, prompts["square"], classes, seeded) | _wide(
        network, wide, prompts["wide"], seeded
    )


def _square(network: RapSam, spec: ModelSpec, part: dict[str, Any], classes: Tensor, seeded: ModuleType) -> Arrays:
    side = part["size"]
    features = network(to_input(seeded.picture(part["frame"], side), spec, network.device, network.step))
    out: Arrays = {"square/neck": features[0, ::16, ::8, ::8].numpy()}
    panoptic = network.decoder.panoptic(features, classes)
    for index, stage in enumerate(panoptic):
        key, masks = f"square/panoptic/stage{index}", stage.logits_bnhw[0]
        assert stage.classes_bnk is not None
        out[f"{key}/classes"] = stage.classes_bnk[0, ::9, ::7].numpy()
        out[f"{key}/masks"] = masks[::33, ::8, ::8].numpy()
        out |= _rating(key, masks, stage.quality_bn[0])
    out["square/panoptic/queries"] = panoptic[-1].queries_bnc[0, ::9, ::4].numpy()
    prompted = network.decoder.prompted(features, _queries(part, (side, side), spec, side / 256))
    for index, stage in enumerate(prompted):
        key, masks = f"square/prompts/stage{index}", stage.logits_bnhw[0]
        step = 2 if index == len(prompted) - 1 else 4
        out[f"{key}/low_res"] = masks[:, ::step, ::step].numpy()
        out |= _rating(key, masks, stage.quality_bn[0])
    return out


def _wide(network: RapSam, spec: ModelSpec, part: dict[str, Any], seeded: ModuleType) -> Arrays:
    rgb = seeded.picture(part["frame"], part["size"], part["crop"])
    size_wh = rgb.shape[1], rgb.shape[0]
    inputs = to_input(rgb, spec, network.device, network.step)
    last = network.decoder.prompted(network(inputs), _queries(part, size_wh, spec, 1))[-1]
    logits = to_picture(last.logits_bnhw, size_wh, spec.input_wh)[0]
    _, (width, height) = fitted(size_wh, spec.input_wh)
    out: Arrays = {
        "wide/size": np.array([height, width, *inputs.shape[2:]]),
        "wide/input": inputs[0, :, 3::23, 3::23].numpy(),
        "wide/prompts/logits": logits[:, ::9, ::9].numpy(),
    }
    return out | _rating("wide/prompts", logits, last.quality_bn[0])


def _rating(key: str, masks: Tensor, quality: Tensor) -> Arrays:
    return {f"{key}/iou": quality.numpy(), f"{key}/area": (masks > 0).sum((1, 2)).numpy()}


def _queries(part: dict[str, Any], size_wh: tuple[int, int], spec: ModelSpec, scale: float) -> Tensor:
    """The clicks, then the box: (N, 4)."""
    points: list[Prompt] = [Points(np.array([xy], np.float32) * np.float32(scale), [1]) for xy in part["points"]]
    prompts = group_prompts([*points, Box(tuple(x * scale for x in part["box"]))], (), size_wh)
    return torch.from_numpy(np.concatenate([query_boxes(prompt, size_wh, spec.input_wh) for prompt in prompts]))
