"""The fixtures of FastSAM3D: clicks one after the other in one volume."""

from typing import Any

import numpy as np
import torch

from samvideo.networks.fast_sam3d import FastSam3d
from samvideo.segmenters.volume import VolumeSegmenter, normalise


def run(
    network: FastSam3d, fixture: dict[str, np.ndarray], prompts: dict[str, Any], seeded: Any
) -> dict[str, np.ndarray]:
    """Every key of the fixture as our network computes it."""
    segmenter = VolumeSegmenter(network)
    volume = seeded.volume(prompts["volume"])
    embedding = segmenter.embed(volume)
    clicks = np.array([click for click, _ in prompts["clicks"]], np.float64)
    labels = np.array([label for _, label in prompts["clicks"]])
    thin = np.s_[:, ::3, ::3, ::3]
    found = {
        "input": normalise(torch.from_numpy(volume)).numpy()[3::9, 3::9, 3::9],
        "encoder": embedding[0, ::16].numpy(),
    }
    for number, answer in enumerate(segmenter.answers(embedding, clicks, labels)):
        logits, full = answer.logits.numpy(), segmenter.full(answer)
        here = {"low_res": logits[:1][thin][0], "area": _areas(logits[:1]), "iou": answer.quality[:1].numpy()}
        here |= {"full_area": _areas(full[None]), "full": full[4::8, 4::8, 4::8]}
        here |= {"multi/low_res": logits[1:, ::5, ::5, ::5], "multi/area": _areas(logits[1:])}
        here |= {"multi/iou": answer.quality[1:].numpy()}
        found |= {f"click{number}/{key}": value for key, value in here.items()}
    with torch.inference_mode():
        place, label = torch.from_numpy(clicks[None, :1]).float(), torch.from_numpy(labels[None, :1])
        logits, quality = (part[0, :1].numpy() for part in network.decode(embedding, place, label))
    found |= {"nomask/low_res": logits[thin][0], "nomask/iou": quality, "nomask/area": _areas(logits)}
    return {key: found[key] for key in fixture if key in found}


def _areas(logits: np.ndarray) -> np.ndarray:
    return (logits > 0).sum((1, 2, 3))
