"""Names of parameters: the publishers' (facebookresearch/sam2 and its relatives), Hugging Face's, and ours."""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

PREFIXES = {
    "image_encoder.": "encoder.",
    "memory_attention.": "memory.attention.",
    "memory_encoder.": "memory.encoder.",
    "spatial_perceiver.": "memory.perceiver.",
    "maskmem_tpos_enc": "memory.frame_codes",
    "no_mem_embed": "memory.no_memory",
    "no_obj_embed_spatial": "memory.absent",
    "sam_prompt_encoder.": "prompts.",
    "sam_mask_decoder.": "decoder.",
    "mask_downsample.": "pointers.mask_downsample.",
    "obj_ptr_proj.": "pointers.obj_ptr_proj.",
    "obj_ptr_tpos_proj.": "pointers.obj_ptr_tpos_proj.",
    "no_obj_ptr": "pointers.no_obj_ptr",
}
UNUSED: dict[str, tuple[int, ...]] = {"no_mem_pos_enc": (1, 1, 256)}
"""Keys of every checkpoint that no published model reads at inference, with their shapes."""


SAM_MLP = ((r"\.mlp\.layers\.0\.", ".mlp.lin1."), (r"\.mlp\.layers\.1\.", ".mlp.lin2."))
"""Our names of the layers of an MLP, as patterns, and those of SAM's code; see `renamed`."""


def renamed(name: str, rules: Iterable[tuple[str, str]]) -> str:
    """Return a name in which each pattern is replaced, one after the other."""
    for pattern, into in rules:
        name = re.sub(pattern, into, name)
    return name


def published(own: str) -> str:
    """Return the publisher's name of one of our parameters; only the names of the parts differ."""
    for theirs, ours in PREFIXES.items():
        if own.startswith(ours):
            return theirs + own[len(ours) :]
    raise KeyError(f"no published name for {own!r}")


_HUB_RULES = (
    (r"^no_memory_embedding$", "no_mem_embed"),
    (r"^no_memory_positional_encoding$", "no_mem_pos_enc"),
    (r"^memory_temporal_positional_encoding$", "maskmem_tpos_enc"),
    (r"^no_object_pointer$", "no_obj_ptr"),
    (r"^occlusion_spatial_embedding_parameter$", "no_obj_embed_spatial"),
    (r"^temporal_positional_encoding_projection_layer\.", "obj_ptr_tpos_proj."),
    (r"^object_pointer_proj\.", "obj_ptr_proj."),
    (r"^vision_encoder\.backbone\.timm_model\.", "image_encoder.trunk.body."),
    (r"^vision_encoder\.backbone\.", "image_encoder.trunk."),
    (r"^vision_encoder\.neck\.convs\.(\d+)\.", r"image_encoder.neck.convs.\1.conv."),
    (r"^vision_encoder\.layers\.", "image_encoder.blocks."),
    (r"^vision_encoder\.neck\.conv1\.", "image_encoder.neck.0."),
    (r"^vision_encoder\.neck\.layer_norm1\.", "image_encoder.neck.1."),
    (r"^vision_encoder\.neck\.conv2\.", "image_encoder.neck.2."),
    (r"^vision_encoder\.neck\.layer_norm2\.", "image_encoder.neck.3."),
    (r"^vision_encoder\.", "image_encoder."),
    (r"^prompt_encoder\.point_embed\.(\d)\.", r"prompt_encoder.point_embeddings.\1."),
    (r"\.patch_embed\.projection\.", ".patch_embed.proj."),
    (r"^shared_image_embedding\.positional_embedding$", "prompt_encoder.shared_embedding.positional_embedding"),
    (
        r"^prompt_encoder\.shared_embedding\.positional_embedding$",
        "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
    ),
    (r"^prompt_encoder\.mask_embed\.conv(\d)\.", r"prompt_encoder.mask_downscaling.3*\1+-3."),
    (r"^prompt_encoder\.mask_embed\.layer_norm(\d)\.", r"prompt_encoder.mask_downscaling.3*\1+-2."),
    (r"^prompt_encoder\.", "sam_prompt_encoder."),
    (r"^mask_decoder\.upscale_conv1\.", "sam_mask_decoder.output_upscaling.0."),
    (r"^mask_decoder\.upscale_layer_norm\.", "sam_mask_decoder.output_upscaling.1."),
    (r"^mask_decoder\.upscale_conv2\.", "sam_mask_decoder.output_upscaling.3."),
    (r"^mask_decoder\.", "sam_mask_decoder."),
    (r"\.layer_norm_final_attn\.", ".norm_final_attn."),
    (
        r"^memory_encoder\.mask_downsampler\.layers\.(\d)\.conv\.",
        r"memory_encoder.mask_downsampler.encoder.3*\1+0.",
    ),
    (r"\.mask_downsampler\.layers\.(\d)\.layer_norm\.", r".mask_downsampler.encoder.3*\1+1."),
    (r"^memory_encoder\.mask_downsampler\.final_conv\.", "memory_encoder.mask_downsampler.encoder.12."),
    (r"^memory_encoder\.feature_projection\.", "memory_encoder.pix_feat_proj."),
    (r"^memory_encoder\.projection\.", "memory_encoder.out_proj."),
    (r"^memory_encoder\.memory_fuser\.", "memory_encoder.fuser."),
    (r"\.fuser\.layers\.(\d)\.scale$", r".fuser.layers.\1.gamma"),
    (r"\.depthwise_conv\.", ".dwconv."),
    (r"\.pointwise_conv(\d)\.", r".pwconv\1."),
    (r"\.fuser\.layers\.(\d)\.layer_norm\.", r".fuser.layers.\1.norm."),
    (r"^memory_attention\.layers\.(\d)\.mlp\.up_proj\.", r"memory_attention.layers.\1.linear1."),
    (r"^memory_attention\.layers\.(\d)\.mlp\.down_proj\.", r"memory_attention.layers.\1.linear2."),
    (r"^spatial_perceiver\.latents_1d$", "spatial_perceiver.latents"),
    (r"^(spatial_perceiver\.layers\.\d)\.layer_norm_input\.", r"\1.attn.norm_x."),
    (r"^(spatial_perceiver\.layers\.\d)\.layer_norm_latents\.", r"\1.attn.norm_latents."),
    (r"^(spatial_perceiver\.layers\.\d)\.layer_norm_self\.", r"\1.self_attn.norm."),
    (r"^(spatial_perceiver\.layers\.\d)\.(?:cross_|(self_))attention\.", r"\1.\2attn."),
    (r"^(spatial_perceiver\.layers\.\d)\.(self_)?mlp\.layer_norm\.", r"\1.\2ff.0."),
    (r"^(spatial_perceiver\.layers\.\d)\.(self_)?mlp\.up_proj\.", r"\1.\2ff.1."),
    (r"^(spatial_perceiver\.layers\.\d)\.(self_)?mlp\.down_proj\.", r"\1.\2ff.3."),
    (r"^(spatial_perceiver\.layers\.\d\.(?:self_)?attn)\.q_proj\.", r"\1.to_q."),
    (r"^(spatial_perceiver\.layers\.\d\.(?:self_)?attn)\.o(?:ut)?_proj\.", r"\1.to_out."),
    (r"^(spatial_perceiver|memory_attention)\.layer_norm\.", r"\1.norm."),
    (r"\.layer_norm(\d)\.", r".norm\1."),
    (r"\.o_proj\.", ".out_proj."),
    (r"\.mlp\.proj_in\.", ".mlp.layers.0."),
    (r"\.mlp\.proj_out\.", ".mlp.layers.1."),
    # three layers: the middle one first, lest it be taken for the first
    (r"(_mlps\.\d|_head|^obj_ptr_proj)\.layers\.0\.", r"\1.layers.1."),
    (r"(_mlps\.\d|_head|^obj_ptr_proj)\.proj_in\.", r"\1.layers.0."),
    (r"(_mlps\.\d|_head|^obj_ptr_proj)\.proj_out\.", r"\1.layers.2."),
)
_SUM = re.compile(r"3\*(\d)\+(-?\d)")
_POINTS = "sam_prompt_encoder.point_embed.weight"


def hub_to_published(key: str, sam: bool = False) -> str:
    """Return the publisher's name of an entry of a model in Hugging Face transformers.

    `point_embed` holds four embeddings, and the Perceiver's `k_proj` and `v_proj` are halves of `to_kv`: `from_hub`
    converts these.

    Args:
        key: of the state dict of SamModel, Sam2VideoModel or EdgeTamVideoModel.
        sam: whether it is of SamModel, for SAM and SlimSAM: the names of the heads are the same in all of them.
    """
    key = renamed(key, _HUB_RULES)
    if sam:
        key = key.removeprefix("sam_")
    return _SUM.sub(lambda found: str(3 * int(found[1]) + int(found[2])), key)


def is_hub(state: Mapping[str, object]) -> bool:
    """Whether a state dict has the names of Hugging Face transformers."""
    return any(key.startswith("vision_encoder.") for key in state)


def is_hub_sam(state: Mapping[str, object]) -> bool:
    """Whether it has those of SamModel, whose vision encoder has no backbone within."""
    return "vision_encoder.pos_embed" in state


def from_hub(state: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Return the state dict under the publishers' names."""
    import torch

    sam = is_hub_sam(state)
    renamed = {hub_to_published(key, sam): value for key, value in state.items()}
    if _POINTS in renamed:
        for i, row in enumerate(renamed.pop(_POINTS)):
            renamed[f"sam_prompt_encoder.point_embeddings.{i}.weight"] = row[None]
    for key in [k for k in renamed if k.startswith("spatial_perceiver.") and k.endswith(".k_proj.weight")]:
        values = key.replace(".k_proj.", ".v_proj.")
        if values in renamed:
            renamed[key.replace(".k_proj.", ".to_kv.")] = torch.cat([renamed.pop(key), renamed.pop(values)])
    return renamed
