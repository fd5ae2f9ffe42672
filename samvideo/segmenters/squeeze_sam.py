"""SqueezeSAM as a segmenter. Needs torch."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from samvideo.errors import PromptError
from samvideo.networks.squeeze_sam import SqueezeSam, draw_prompts
from samvideo.object_prompts import ObjectPrompt
from samvideo.picture_sizes import prompt_scale
from samvideo.pictures import to_input, to_picture
from samvideo.segmenters.base import Chooser, EmbeddedImage, Previous, Segmentation, by_quality
from samvideo.specs import IMAGE_SPECS, ModelSpec
from samvideo.tensors import PromptTensors
from samvideo.torch_runtime import resolve_device
from samvideo.types import UInt8Array, image_wh

log = logging.getLogger(__name__)
BATCH = 4
"""Objects that go through the network at once; more need more memory and are no faster."""


class SqueezeSamSegmenter:
    """Segments with SqueezeSAM; implements `samvideo.segmenters.base.Segmenter`.

    Every prompt gives three candidates, and takes a pass through the whole network. Only a box and clicks on the
    object are seen: other clicks are ignored with a warning, and so are earlier masks of the object.

    Args:
        network: is moved and put in evaluation mode, in place.
        device, dtype: where and how to compute; see `samvideo.torch_runtime.resolve_device`.
        choose: chooses among the candidates of an object.
        spec: the model's.
    """

    lookahead = 0

    def __init__(
        self,
        network: SqueezeSam,
        *,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype = "fp32",
        choose: Chooser = by_quality,
        spec: ModelSpec = IMAGE_SPECS["squeezesam"],
    ) -> None:
        self.network, self.spec, self._choose = network.eval(), spec, choose
        network.convert(*resolve_device(device, dtype))

    @torch.inference_mode()
    def embed(self, rgb: UInt8Array, upcoming: UInt8Array | None = None) -> "SqueezeSamImage":
        """See `Segmenter.embed`: there is nothing to compute but the resized image."""
        size_wh = image_wh(rgb)
        image = to_input(rgb, self.spec, self.network.device)
        return SqueezeSamImage(self, image, size_wh, self._choose)


class SqueezeSamImage(EmbeddedImage):
    """An image as SqueezeSAM takes it."""

    def __init__(
        self, segmenter: SqueezeSamSegmenter, image: Tensor, size_wh: tuple[int, int], choose: Chooser
    ) -> None:
        super().__init__(size_wh, choose)
        self._network, self._spec, self._image = segmenter.network, segmenter.spec, image

    @torch.inference_mode()
    def _candidates(
        self, prompts: Sequence[ObjectPrompt], previous: Mapping[int, Previous], multimask: bool | None
    ) -> list[Segmentation]:
        found: list[Segmentation] = []
        points = [self._points(prompt) for prompt in prompts]  # all are checked before the first is answered
        for begin in range(0, len(prompts), BATCH):
            part = slice(begin, begin + BATCH)
            logits, quality = self._network(self.inputs(points[part]))
            for prompt, low, rating in zip(prompts[part], logits, quality, strict=True):
                masks = (to_picture(low[None], self.size_wh, self._spec)[0] > 0).cpu().numpy()
                found.append(Segmentation(prompt.object_id, masks, rating.cpu().numpy()))
        return found

    def inputs(self, points: Sequence[PromptTensors]) -> Tensor:
        """(B, 5, H, W): the image with the maps of each object's points, (1, N) in pixels of the input."""
        height, width = self._image.shape[2:]
        maps = torch.cat([draw_prompts(one, (height, width)) for one in points])
        joined = torch.cat([self._image.expand(len(points), -1, -1, -1), maps], 1)
        return joined.contiguous(memory_format=torch.channels_last)

    def _points(self, prompt: ObjectPrompt) -> PromptTensors:
        """What SqueezeSAM sees of an object's prompts: (1, N) points in pixels of the input."""
        on = prompt.labels == 1
        if prompt.box is None and not on.any():
            raise PromptError(
                f"object {prompt.object_id} has no box and no click on it: SqueezeSAM expects a box, a click on "
                "the object, or both"
            )
        if not on.all():
            _warn_of_unseen_clicks()
        xy, labels = replace(prompt, xy=prompt.xy[on], labels=prompt.labels[on]).points
        xy = (xy * prompt_scale(self.size_wh, self._spec)).astype(np.float32)
        return PromptTensors(*(torch.from_numpy(values)[None].to(self._image.device) for values in (xy, labels)))


@cache  # once in a process
def _warn_of_unseen_clicks() -> None:
    log.warning("SqueezeSAM cannot see clicks that are not on the object: they have no effect")
