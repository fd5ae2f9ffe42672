"""Names of parameters: the publishers' (facebookresearch/sam2 and its relatives) and ours.

Inside the parts, the publishers' names are kept; only the parts themselves are called otherwise.
"""

from collections.abc import Mapping
from typing import Any

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
UNUSED = {"no_mem_pos_enc": (1, 1, 256)}
"""Keys of every checkpoint that no published model reads at inference, with their shapes."""


def published(own: str) -> str:
    """The publisher's name of one of our parameters."""
    for theirs, ours in PREFIXES.items():
        if own.startswith(ours):
            return theirs + own[len(ours) :]
    raise KeyError(f"no published name for {own!r}")


def is_hub(state: Mapping[str, Any]) -> bool:
    """Whether a state dict has the names of Hugging Face transformers."""
    return "prompt_encoder.shared_embedding.positional_embedding" in state


def from_hub(state: Mapping[str, Any]) -> dict[str, Any]:
    """The same state dict under the publishers' names."""
    raise NotImplementedError
