"""The stages of an `ImageModel` as modules of tensors only: encode, and prompt for one object at a time."""

from typing import Any

import torch
from torch import Tensor, nn

from samvideo.deploy.graphs import FINE, POINTS, Graph
from samvideo.deploy.manifest import ImageFacts
from samvideo.heads.efficient_sam import EfficientSamPrompts
from samvideo.image_model import ImageModel
from samvideo.tensors import Features, PromptTensors

SOMETIMES = "without box"
"""Padding of prompts that depends on them: it is left to the host."""


class ImageEncode(nn.Module):
    """A normalised picture (1, 3, H, W) to the coarse map and, of encoders that have them, the fine ones."""

    def __init__(self, model: ImageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Encode a picture."""
        features = self.model.encode(image)
        return features.coarse, *features.fine


class ImagePrompt(nn.Module):
    """Points, and a mask where `masked` is 1, to all masks that the decoder proposes, and their quality."""

    def __init__(self, model: ImageModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, coarse: Tensor, xy: Tensor, labels: Tensor, mask: Tensor, masked: Tensor, *fine: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Shapes are those of `ImageModel.decode`, with `masked` (1,) of 0 or 1."""
        model, features, encoder = self.model, Features(coarse, fine), self.model.prompts
        grid = features.grid
        own_frame = model.spec.picture.prompt_side is not None
        size_wh = model.spec.prompt_wh if own_frame else model.input_wh(features)
        if encoder.padding == SOMETIMES:
            points = encoder.tokens(xy + 0.5, labels, size_wh)
        else:
            points = encoder.points(PromptTensors(xy, labels), size_wh)
        dense = torch.where(masked[:, None, None, None] > 0, encoder.dense(mask, grid), encoder.dense(None, grid))
        found = model.decoder(coarse + dense, encoder.grid_code(grid), points, fine)
        return found.logits_bnhw, found.quality_bn


def image_graphs(model: ImageModel) -> dict[str, Graph]:
    """The two graphs of a fused image model in float32 on the CPU."""
    width, height = model.spec.input_wh
    encode, count = ImageEncode(model), _points(model)
    with torch.no_grad():
        image = torch.zeros(1, 3, height, width)
        coarse, *fine = encode(image)
    rows, columns = coarse.shape[-2:]
    maps: dict[str, Tensor] = dict(zip(FINE, fine, strict=False))
    prompt = {
        "coarse": coarse,
        "xy": torch.zeros(1, count or 3, 2),
        "labels": torch.ones(1, count or 3, dtype=torch.long),
        "mask": torch.zeros(1, 1, 4 * rows, 4 * columns),
        "masked": torch.zeros(1),
    }
    points = {} if count else {1: POINTS}
    return {
        "encode": Graph(encode, {"image": image}, ("coarse", *maps), {}),
        "prompt": Graph(ImagePrompt(model), prompt | maps, ("logits", "quality"), {"xy": points, "labels": points}),
    }


def image_facts(model: ImageModel) -> ImageFacts:
    """What the host has to know."""
    spec = model.spec
    padded = model.prompts.padding == SOMETIMES
    return ImageFacts(spec.picture, spec.answer, spec.mean, spec.std, padded, _points(model))


def _points(model: ImageModel) -> int | None:
    prompts: Any = model.prompts
    return prompts.count if isinstance(prompts, EfficientSamPrompts) else None
