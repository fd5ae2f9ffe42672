"""Hugging Face transformers' models of the same architectures with the same weights, to compare with.

Their default configuration of EdgeTAM is another network than the published one; `peer_model` sets it right.
"""

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from samvideo.errors import ConfigError
from samvideo.models import VideoModel, count_parameters
from samvideo.registry import ENCODERS
from samvideo.specs import IMAGE_SPECS, SPECS
from samvideo.tensors import PromptTensors
from samvideo.weights import keys

SPAN = 16
"""Blank frames at the start of a session, which are replaced: the ages of pointers depend on the clip's length."""


def peer_model(name: str) -> torch.nn.Module:
    """transformers' model of a published name, with random weights; nothing is downloaded.

    Raises:
        ConfigError: transformers is not installed, or has no such model.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import transformers
    except ImportError as error:
        raise ConfigError("--peer transformers needs that package: pip install transformers") from error
    model: Any  # transformers' classes have no types
    if name == "edgetam":
        arguments = {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]}
        backbone = transformers.TimmWrapperConfig(architecture="repvit_m1", model_args=arguments)
        config: Any = transformers.EdgeTamVideoConfig(
            vision_config=transformers.EdgeTamVisionConfig(backbone_config=backbone),
            enable_occlusion_spatial_embedding=False,
            enable_temporal_pos_encoding_for_object_pointers=False,
        )
        model = transformers.EdgeTamVideoModel(config)
        return model.eval()
    if name in IMAGE_SPECS and name.startswith(("sam-vit-", "slimsam-")):
        return _sam_model(transformers, ENCODERS.find(IMAGE_SPECS[name].encoder))
    if name not in SPECS or not name.startswith(("sam2-", "sam2.1-")):
        names = [known for known in (*SPECS, *IMAGE_SPECS) if known.startswith(("sam2.1-", "sam-vit-", "slimsam-"))]
        raise ConfigError(f"transformers has no {name!r}, but edgetam and {', '.join(names)}")
    ours = ENCODERS.find(SPECS[name].encoder)
    widths, heads = ([size << stage for stage in range(4)] for size in (ours.dim, ours.heads))
    trunk = transformers.Sam2HieraDetConfig(
        hidden_size=ours.dim,
        num_attention_heads=ours.heads,
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=heads,
        blocks_per_stage=list(ours.stages),
        global_attention_blocks=list(ours.global_blocks),
        window_size_per_stage=list(ours.windows),
        window_positional_embedding_background_size=[ours.background] * 2,
    )
    config = transformers.Sam2VideoConfig(
        vision_config=transformers.Sam2VisionConfig(backbone_config=trunk, backbone_channel_list=widths[::-1]),
        enable_occlusion_spatial_embedding=name.startswith("sam2.1-"),
        enable_temporal_pos_encoding_for_object_pointers=name.startswith("sam2.1-"),
    )
    model = transformers.Sam2VideoModel(config)
    return model.eval()


def _sam_model(transformers: Any, ours: Any) -> torch.nn.Module:
    vision = transformers.SamVisionConfig(
        hidden_size=ours.dim,
        num_attention_heads=ours.heads,
        num_hidden_layers=ours.depth,
        global_attn_indexes=list(ours.global_blocks),
        mlp_dim=ours.hidden,
        window_size=ours.window,
    )
    model: torch.nn.Module = transformers.SamModel(transformers.SamConfig(vision_config=vision))
    return model.eval()


def mask_generation(model: torch.nn.Module, device: torch.device) -> Any:
    """transformers' pipeline of that name with a SamModel."""
    import transformers

    pipeline: Any = transformers.MaskGenerationPipeline
    return pipeline(model=model, image_processor=transformers.SamImageProcessor(), device=device)


def to_hub(published: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published weights, cut and named as transformers wants them."""
    state, sam = {}, keys.is_hub_sam(wanted)
    for key in wanted:
        source = keys.hub_to_published(key, sam)
        if source == "sam_prompt_encoder.point_embed.weight":
            points = [published[f"sam_prompt_encoder.point_embeddings.{i}.weight"] for i in range(4)]
            state[key] = torch.cat(points)
        elif source.startswith("spatial_perceiver") and source.endswith((".k_proj.weight", ".v_proj.weight")):
            joined = published[source.replace(".k_proj.", ".to_kv.").replace(".v_proj.", ".to_kv.")]
            state[key] = joined.chunk(2)[source.endswith(".v_proj.weight")]
        elif source in keys.UNUSED:
            state[key] = torch.zeros(keys.UNUSED[source])
        else:
            state[key] = published[source]
    return state


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
        model = peer_model(ours.spec.name)
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
