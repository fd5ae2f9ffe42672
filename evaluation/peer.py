"""Hugging Face transformers' models of the same architectures with the same weights, to compare with."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from samvideo.errors import ConfigError
from samvideo.interchange import hub_model, to_hub
from samvideo.models import VideoModel, count_parameters
from samvideo.tensors import PromptTensors
from samvideo.weights import keys

SPAN = 16
"""Blank frames at the start of a session, which are replaced: the ages of pointers depend on the clip's length."""


def mask_generation(model: torch.nn.Module, device: torch.device) -> Any:
    """transformers' pipeline of that name with a SamModel."""
    import transformers

    pipeline: Any = transformers.MaskGenerationPipeline
    return pipeline(model=model, image_processor=transformers.SamImageProcessor(), device=device)


class Peer:
    """One video in transformers' streaming session, frame by frame, with the masks at the decoder's size.

    Args:
        ours: the model to compare with, not fused yet: its weights are taken over.
        device, dtype: where and how to compute.
        frame_wh: size of the frames, in pixels.
    """

    def __init__(
        self, ours: VideoModel, device: torch.device, dtype: torch.dtype, frame_wh: tuple[int, int]
    ) -> None:
        if ours.spec.input_wh != (1024, 1024):
            raise ConfigError(f"transformers computes at 1024x1024 only, not at {ours.spec.input_wh}")
        model = hub_model(ours.spec.name)
        published = {keys.published(key): value for key, value in ours.state_dict().items()}
        model.load_state_dict(to_hub(published, model.state_dict()))
        self.parameters = count_parameters(model)
        self.model = model.to(device, dtype)
        kind = type(model).__name__.replace("Model", "InferenceSession")
        session_class = getattr(import_module(type(model).__module__), kind)
        width, height = frame_wh
        self._session = session_class(
            video=torch.zeros(SPAN, 1, 1, 1),
            video_height=height,
            video_width=width,
            inference_device=device,
            video_storage_device=device,
            inference_state_device=device,
            dtype=dtype,
        )
        self._device, self._dtype, self._seen = device, dtype, 0

    @torch.inference_mode()
    def step(self, image: Tensor, prompts: Sequence[tuple[int, PromptTensors]] = ()) -> Tensor:
        """Logits (K, h, w) of all objects on the next frame.

        Args:
            image: (1, 3, H, W), normalised at the model's size.
            prompts: object and its clicks in pixels of the model's input.
        """
        session = self._session
        index = session.add_new_frame(image[0].to(self._device, self._dtype), self._seen)
        self._seen += 1
        for object_id, points in prompts:
            inputs = {"point_coords": points.xy[:, None], "point_labels": points.labels[:, None].int()}
            session.add_point_inputs(session.obj_id_to_idx(object_id), index, inputs)
        if prompts:
            session.obj_with_new_inputs = [object_id for object_id, _ in prompts]
        masks: Tensor = self.model(session, frame_idx=index).pred_masks
        return masks.flatten(0, 1)
