"""An exported image model as a segmenter; no torch. Counterpart in PyTorch: `samvideo.segmenters.image_model`."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samvideo.deploy.graph_runtime import (
    MASK_BIAS,
    MASK_SCALE,
    STABILITY_DELTA,
    STABILITY_THRESHOLD,
    RunsGraph,
    shrunk,
    stability,
)
from samvideo.deploy.image_pictures import to_input, to_picture
from samvideo.deploy.manifest import ImageFacts, Manifest
from samvideo.errors import ConfigError
from samvideo.object_prompts import ObjectPrompt
from samvideo.picture_sizes import fitted_wh, prompt_scale
from samvideo.segmenters.base import Chooser, EmbeddedImage, Previous, Segmentation, by_quality, mask_of
from samvideo.specs import ModelSpec
from samvideo.types import BoolArray, FloatArray, UInt8Array, image_wh

log = logging.getLogger(__name__)

RATING_OFFSET = 1.0
"""See `samvideo.segmenters.image_model`."""


class ExportedSegmenter:
    """Segments with the graphs of an image model; implements `samvideo.segmenters.base.Segmenter`.

    Args:
        manifest: of the export.
        graphs: what runs each stage.
        choose: chooses among the candidates of an object.
    """

    lookahead = 0

    def __init__(self, manifest: Manifest, graphs: Mapping[str, RunsGraph], choose: Chooser = by_quality) -> None:
        if manifest.image is None:
            raise ConfigError(f"the export of {manifest.model} only tracks: export an image model to segment with")
        self.manifest, self.facts, self.graphs, self._choose = manifest, manifest.image, graphs, choose

    def embed(self, rgb: UInt8Array, upcoming: UInt8Array | None = None) -> "ExportedImage":
        """See `Segmenter.embed`."""
        facts = self.facts
        spec = ModelSpec(
            self.manifest.model,
            "",
            memory=None,
            input_wh=self.manifest.input_wh,
            mean=facts.mean,
            std=facts.std,
            picture=facts.picture,
        )
        features = self.graphs["encode"]({"image": to_input(rgb, spec)})
        return ExportedImage(self.graphs["prompt"], features, facts, spec, image_wh(rgb), self._choose)


class ExportedImage(EmbeddedImage):
    """An image encoded by the graph of an image model."""

    def __init__(
        self,
        decode: RunsGraph,
        features: Mapping[str, NDArray[Any]],
        facts: ImageFacts,
        spec: ModelSpec,
        size_wh: tuple[int, int],
        choose: Chooser,
    ) -> None:
        super().__init__(size_wh, choose)
        self._decode, self.features, self._facts, self._spec = decode, features, facts, spec

    def _candidates(
        self, prompts: Sequence[ObjectPrompt], previous: Mapping[int, Previous], multimask: bool | None
    ) -> list[Segmentation]:
        return [self._segment(prompt, previous.get(prompt.object_id), multimask) for prompt in prompts]

    def _segment(self, prompt: ObjectPrompt, previous: Previous | None, multimask: bool | None) -> Segmentation:
        before = mask_of(previous)
        mask = None if previous is None or before is None or not before.any() else self._logits(previous, before)
        xy, labels = prompt.points
        ambiguous = mask is None and len(labels) <= 1 if multimask is None else multimask
        found = self._decode(
            {**self.features, **self._points(xy, labels, prompt.box is not None), **self._mask(mask)}
        )
        low, quality = answers(found["logits"][0], found["quality"][0], self._facts.answer, ambiguous)
        return Segmentation(prompt.object_id, to_picture(low, self.size_wh, self._spec), quality, low)

    def _points(self, xy: NDArray[Any], labels: NDArray[np.int64], boxed: bool) -> dict[str, NDArray[Any]]:
        """Points in the frame of prompts, as many as the graph wants."""
        scaled, count = (xy * prompt_scale(self.size_wh, self._spec)).astype(np.float32), self._facts.points
        missing = int(self._facts.padded and not boxed) if count is None else count - len(labels)
        if missing < 0:
            log.warning(
                "%s reads %d points (a box is two): the last %d are left out", self._spec.name, count, -missing
            )
        scaled, labels = scaled[: len(labels) + missing], labels[: len(labels) + missing]
        scaled = np.pad(scaled, ((0, max(missing, 0)), (0, 0)))
        labels = np.pad(labels, (0, max(missing, 0)), constant_values=-1)
        return {"xy": scaled[None], "labels": labels[None].astype(np.int64)}

    def _mask(self, logits: FloatArray | None) -> dict[str, NDArray[Any]]:
        height, width = self._cells
        mask = np.zeros((height, width), np.float32) if logits is None else logits
        return {"mask": mask[None, None], "masked": np.array([logits is not None], np.float32)}

    @property
    def _cells(self) -> tuple[int, int]:
        height, width = self.features["coarse"].shape[-2:]
        return 4 * height, 4 * width

    def _logits(self, previous: Previous, mask: BoolArray) -> FloatArray:
        """(4 h, 4 w): what a prompt corrects, as the decoder's own logits."""
        height, width = self._cells
        logits = previous.logits_nhw if isinstance(previous, Segmentation) else None
        if isinstance(previous, Segmentation) and logits is not None and logits.shape[1:] == (height, width):
            return logits[previous.chosen]
        rule = self._spec.picture
        size_wh = (width, height) if rule.fit == "stretch" else fitted_wh(self.size_wh, max(width, height), rule)
        canvas = np.zeros((height, width), np.float32)
        canvas[: size_wh[1], : size_wh[0]] = shrunk(mask.astype(np.float32), size_wh) >= 0.5
        return canvas * np.float32(MASK_SCALE) + np.float32(MASK_BIAS)


def answers(logits: FloatArray, quality: FloatArray, answer: str, ambiguous: bool) -> tuple[FloatArray, FloatArray]:
    """The masks that answer a prompt, (M, h, w) and their ratings (M,), of all that there are; see `Answer`."""
    if answer == "stability":
        quality = np.array([stability(mask, RATING_OFFSET) for mask in logits], np.float32)
    if (ambiguous or answer == "alternatives") and len(quality) > 1:
        return logits[1:], quality[1:]
    unstable = answer == "stable" and stability(logits[0], STABILITY_DELTA) < STABILITY_THRESHOLD
    index = 1 + int(quality[1:].argmax()) if unstable else 0
    return logits[index : index + 1], quality[index : index + 1]


def open_segmenter(folder: Path, *, device: str = "auto", choose: Chooser = by_quality) -> ExportedSegmenter:
    """Open an exported image model on ONNX Runtime; errors as of `samvideo.deploy.onnx_runtime.open_onnx`."""
    from samvideo.deploy.onnx_runtime import open_graphs

    return ExportedSegmenter(*open_graphs(folder, device=device), choose)
