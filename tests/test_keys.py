"""Names of weights; the whole map is checked against transformers in tests/parity/test_transformers.py."""

import pytest
import torch

from samvideo.weights.keys import from_hub, hub_to_published, is_hub, published


@pytest.mark.parametrize(
    ("own", "theirs"),
    [
        ("encoder.trunk.pos_embed", "image_encoder.trunk.pos_embed"),
        ("memory.encoder.out_proj.bias", "memory_encoder.out_proj.bias"),
        ("pointers.no_obj_ptr", "no_obj_ptr"),
    ],
)
def test_published(own: str, theirs: str) -> None:
    assert published(own) == theirs


def test_unknown_parameters_have_no_published_name() -> None:
    with pytest.raises(KeyError, match="no published name"):
        published("head.weight")


@pytest.mark.parametrize(
    ("hub", "theirs"),
    [
        (
            "memory_encoder.mask_downsampler.layers.2.layer_norm.bias",
            "memory_encoder.mask_downsampler.encoder.7.bias",
        ),
        (
            "mask_decoder.iou_prediction_head.layers.0.weight",
            "sam_mask_decoder.iou_prediction_head.layers.1.weight",
        ),
        (
            "mask_decoder.transformer.layers.1.mlp.proj_in.weight",
            "sam_mask_decoder.transformer.layers.1.mlp.layers.0.weight",
        ),
        ("vision_encoder.neck.convs.3.bias", "image_encoder.neck.convs.3.conv.bias"),
    ],
)
def test_hub_names(hub: str, theirs: str) -> None:
    assert hub_to_published(hub) == theirs


@pytest.mark.parametrize(
    ("hub", "theirs"),
    [
        ("vision_encoder.layers.3.layer_norm2.bias", "image_encoder.blocks.3.norm2.bias"),
        ("vision_encoder.neck.layer_norm2.weight", "image_encoder.neck.3.weight"),
        ("prompt_encoder.point_embed.2.weight", "prompt_encoder.point_embeddings.2.weight"),
        ("prompt_encoder.mask_embed.conv3.bias", "prompt_encoder.mask_downscaling.6.bias"),
        ("mask_decoder.transformer.layers.0.mlp.lin1.bias", "mask_decoder.transformer.layers.0.mlp.lin1.bias"),
    ],
)
def test_hub_names_of_sam(hub: str, theirs: str) -> None:
    assert hub_to_published(hub, sam=True) == theirs


def test_what_the_hub_cuts_otherwise_is_put_together() -> None:
    rows = torch.arange(8.0).view(4, 2)
    layer = "spatial_perceiver.layers.0.cross_attention"
    state = from_hub(
        {
            "vision_encoder.neck.convs.0.bias": torch.zeros(1),
            "prompt_encoder.point_embed.weight": rows,
            f"{layer}.v_proj.weight": torch.ones(1, 2),
            f"{layer}.k_proj.weight": torch.zeros(1, 2),
        }
    )
    assert torch.equal(state["sam_prompt_encoder.point_embeddings.2.weight"], rows[2:3])
    assert state["spatial_perceiver.layers.0.attn.to_kv.weight"].tolist() == [[0.0, 0.0], [1.0, 1.0]]
    assert is_hub({"vision_encoder.x": 1})
    assert not is_hub(state)
