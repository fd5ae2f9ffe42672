"""What image models are compared with: transformers' SamModel with the same weights, and timm's plain trunks."""

from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from samvideo.errors import ConfigError
from samvideo.evaluation.peer import mask_generation
from samvideo.image_model import ImageModel
from samvideo.interchange import hub_model, to_hub
from samvideo.models import count_parameters
from samvideo.prompters.grid import GridConfig
from samvideo.segmenters.image_model import BATCH
from samvideo.tensors import PromptTensors
from samvideo.types import BoolArray, UInt8Array

_MAPS: dict[str, Any] = {"features_only": True}
_SIZED: dict[str, Any] = {"img_size": None}  # these are built for one size
_VIT: dict[str, Any] = _SIZED | {"num_classes": 0, "class_token": False, "global_pool": ""}
_SAM: dict[str, Any] = _SIZED | {"num_classes": 0}
TRUNKS: dict[str, tuple[str, dict[str, Any]]] = {
    "efficientformer-l": ("efficientformerv2_l", _MAPS | _SIZED),
    "efficientformer-s0": ("efficientformerv2_s0", _MAPS | _SIZED),
    "efficientformer-s1": ("efficientformerv2_s1", _MAPS | _SIZED),
    "efficientformer-s2": ("efficientformerv2_s2", _MAPS | _SIZED),
    "efficientvit-l1": ("efficientvit_l1", _MAPS),
    "efficientvit-l1-dense": ("efficientvit_l1", _MAPS),
    "efficientvit-l2": ("efficientvit_l2", _MAPS),
    "efficientvit-l2-dense": ("efficientvit_l2", _MAPS),
    "repvit-m1-fused": ("repvit_m1", _MAPS),
    "repvit-m2.3": ("repvit_m2_3", _MAPS),
    "resnet-18": ("resnet18", _MAPS),
    "sam-vit-b": ("samvit_base_patch16", _SAM),
    "sam-vit-h": ("samvit_huge_patch16", _SAM),
    "sam-vit-l": ("samvit_large_patch16", _SAM),
    "tinyvit-5m": ("tiny_vit_5m_224", _MAPS),
    "vit-s-global": ("vit_small_patch16_224", _VIT),
    "vit-ti-global": ("vit_tiny_patch16_224", _VIT),
}
"""timm's name and options of the trunk of an encoder."""


class ImagePeer(Protocol):
    """Another implementation of an image model or its trunk.

    Attributes:
        parameters: how many it has.
    """

    parameters: int

    def encode(self, image_bchw: Tensor) -> Any:
        """What is timed beside our encoder, on the same input."""

    def masks(self, encoded: Any, points: PromptTensors) -> Tensor | None:
        """(B, 3, h, w) logits of B prompts; None of a trunk."""


class SamPeer:
    """transformers' SamModel with our weights.

    Args:
        ours: not fused yet.
        device, dtype: where and how to compute.

    Raises:
        ConfigError: transformers is not installed, or has no such model or size.
    """

    def __init__(self, ours: ImageModel, device: torch.device, dtype: torch.dtype) -> None:
        if ours.spec.input_wh != (1024, 1024):
            raise ConfigError(f"transformers computes at 1024x1024 only, not at {ours.spec.input_wh}")
        model: Any = hub_model(ours.spec.name)
        published = {ours.published(key): value for key, value in ours.state_dict().items()}
        model.load_state_dict(to_hub(published, model.state_dict()))
        self.parameters = count_parameters(model)
        self.model, self._dtype = model.to(device, dtype), dtype

    @torch.inference_mode()
    def encode(self, image_bchw: Tensor) -> Tensor:
        """(1, 256, h, w)."""
        embeddings: Tensor = self.model.get_image_embeddings(image_bchw.to(self._dtype))
        return embeddings

    @torch.inference_mode()
    def masks(self, encoded: Tensor, points: PromptTensors) -> Tensor:
        """Prompts are boxes: two points each, the corners."""
        boxes = points.xy.flatten(1)[None].to(self._dtype)
        output = self.model(image_embeddings=encoded, input_boxes=boxes, multimask_output=True)
        masks: Tensor = output.pred_masks[0]
        return masks


class GridPeer:
    """transformers' pipeline of mask generation, with our weights.

    Args:
        ours, device, dtype: see `SamPeer`.

    Raises:
        ConfigError: see `SamPeer`.
    """

    def __init__(self, ours: ImageModel, device: torch.device, dtype: torch.dtype) -> None:
        peer = SamPeer(ours, device, dtype)
        self.parameters, self._pipeline = peer.parameters, mask_generation(peer.model, device)

    def propose(self, rgb: UInt8Array, config: GridConfig) -> list[BoolArray]:
        """Masks (H, W) of an image, without crops."""
        found = self._pipeline(
            Image.fromarray(rgb),
            points_per_batch=BATCH,
            points_per_crop=config.points,
            pred_iou_thresh=config.keep.quality,
            stability_score_thresh=config.keep.stability,
            stability_score_offset=config.keep.offset,
            crops_nms_thresh=config.box_overlap,
        )
        return [np.asarray(mask, bool) for mask in found["masks"]]


class TimmPeer:
    """timm's plain trunk of the same architecture: at its own strides, without a neck (SAM's ViT has its neck).

    Args:
        ours: its encoder says which.
        device, dtype: where and how to compute.

    Raises:
        ConfigError: timm is not installed, or has no such trunk.
    """

    def __init__(self, ours: ImageModel, device: torch.device, dtype: torch.dtype) -> None:
        try:
            import timm
        except ImportError as error:
            raise ConfigError("--peer timm needs that package: pip install timm") from error
        if ours.spec.encoder not in TRUNKS:
            raise ConfigError(
                f"timm has no trunk like that of {ours.spec.name!r} ({ours.spec.encoder}); it has those of: "
                f"{', '.join(TRUNKS)}"
            )
        name, options = TRUNKS[ours.spec.encoder]
        if "img_size" in options:
            options = options | {"img_size": ours.spec.input_wh[::-1]}
        model: Any = timm.create_model(name, pretrained=False, **options)
        self.parameters = count_parameters(model)
        self._model, self._dtype = model.eval().to(device, dtype), dtype

    @torch.inference_mode()
    def encode(self, image_bchw: Tensor) -> object:
        """The trunk's maps."""
        return self._model(image_bchw.to(self._dtype))

    def masks(self, encoded: object, points: PromptTensors) -> None:
        """A trunk has none."""


def image_peer(name: str, ours: ImageModel, device: torch.device, dtype: torch.dtype) -> ImagePeer:
    """The peer of a name, "transformers" or "timm"."""
    return SamPeer(ours, device, dtype) if name == "transformers" else TimmPeer(ours, device, dtype)
