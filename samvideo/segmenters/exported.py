"""An exported video model as a segmenter; no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from samvideo.deploy.graph_runtime import MASK_BIAS, MASK_SCALE, GraphPrediction, GraphRuntime
from samvideo.object_prompts import ObjectPrompt, input_points
from samvideo.runtime import Pick, SelectedMemory
from samvideo.segmenters.base import Chooser, EmbeddedImage, Previous, Segmentation, by_quality, mask_of
from samvideo.types import FloatArray, UInt8Array, image_wh

ALTERNATIVES = 3


class ExportedSegmenter:
    """Segments with the graphs `encode` and `prompt`; implements `samvideo.segmenters.base.Segmenter`.

    An ambiguous prompt, a single click, gives three candidates, any other one.

    Args:
        runtime: of the model.
        choose: chooses among the candidates of an object.
    """

    lookahead = 0

    def __init__(self, runtime: GraphRuntime, choose: Chooser = by_quality) -> None:
        self._runtime, self._choose = runtime, choose

    def embed(self, rgb: UInt8Array, upcoming: UInt8Array | None = None) -> "ExportedImage":
        """See `Segmenter.embed`."""
        return ExportedImage(self._runtime, self._runtime.encode(rgb), image_wh(rgb), self._choose)


class ExportedImage(EmbeddedImage):
    """An image encoded by an exported model."""

    def __init__(self, runtime: GraphRuntime, features: Any, size_wh: tuple[int, int], choose: Chooser) -> None:
        super().__init__(size_wh, choose)
        self._runtime, self._features = runtime, features

    def _candidates(
        self, prompts: Sequence[ObjectPrompt], previous: Mapping[int, Previous], multimask: bool | None
    ) -> list[Segmentation]:
        return [self._segment(prompt, previous.get(prompt.object_id), multimask) for prompt in prompts]

    def _segment(self, prompt: ObjectPrompt, previous: Previous | None, multimask: bool | None) -> Segmentation:
        runtime, earlier = self._runtime, self._prediction(previous)
        xy, labels = input_points(prompt, self.size_wh, runtime.input_size(self.size_wh))
        found = runtime.prompt(self._features, SelectedMemory(), xy, labels, earlier)
        ambiguous = (earlier is None and len(labels) <= 1) if multimask is None else multimask
        found = replace(found, ambiguous=ambiguous)
        picks = [Pick(found, row) for row in range(ALTERNATIVES)] if ambiguous else [Pick(found)]
        predictions = runtime.choose(picks, -np.inf)
        masks = runtime.output(predictions, self.size_wh, exclusive=False, logits=False).masks_khw
        logits = np.stack([prediction.logits for prediction in predictions])
        return Segmentation(prompt.object_id, masks, runtime.scores(predictions)[0], logits)

    def _prediction(self, previous: Previous | None) -> GraphPrediction | None:
        """What a prompt corrects; None where that is nothing."""
        mask = mask_of(previous)
        if mask is None or not mask.any():
            return None
        width, height = (side // 4 for side in self._runtime.input_size(self.size_wh))
        logits = previous.logits_nhw if isinstance(previous, Segmentation) else None
        if isinstance(previous, Segmentation) and logits is not None and logits.shape[1:] == (height, width):
            return _prediction_of(logits[previous.chosen])
        shares = Image.fromarray(mask.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
        inside = (np.asarray(shares) >= 0.5).astype(np.float32)
        return _prediction_of(inside * np.float32(MASK_SCALE) + np.float32(MASK_BIAS))


def _prediction_of(logits: FloatArray) -> GraphPrediction:
    return GraphPrediction(logits, 1.0, np.zeros(0, np.float32), 1.0)
