"""Hugging Face transformers, a second implementation, computes the same masks from the same weights."""

import json
import os
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from image.seeded_image import seeded_image_array
from seeded import seeded_array, seeded_frame

from samvideo.encoders.sam_vit import SamVitConfig
from samvideo.encoders.sam_vit import build as build_encoder
from samvideo.image_model import ImageModel
from samvideo.memory.fifo import FifoPolicy
from samvideo.models import build
from samvideo.registry import ENCODERS
from samvideo.specs import IMAGE_SPECS
from samvideo.state_dict import load_state, recognise
from samvideo.tensors import PromptTensors
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.sam import SamTracker
from samvideo.types import Box, Frame
from samvideo.weights import keys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

FRAMES = 3
BOX = (112.0, 272.0, 448.0, 608.0)


def sam2() -> torch.nn.Module:
    return transformers.Sam2VideoModel(transformers.Sam2VideoConfig())


def edgetam() -> torch.nn.Module:
    backbone = transformers.TimmWrapperConfig(
        architecture="repvit_m1", model_args={"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]}
    )
    config = transformers.EdgeTamVideoConfig(
        vision_config=transformers.EdgeTamVisionConfig(backbone_config=backbone),
        enable_occlusion_spatial_embedding=False,
        enable_temporal_pos_encoding_for_object_pointers=False,
    )
    return transformers.EdgeTamVideoModel(config)


def manifest(name: str) -> dict:
    folder = Path(__file__).parent / "fixtures"
    return json.loads((folder / f"{name}.manifest.json").read_text())


def seeded_for_hub(theirs: torch.nn.Module, name: str) -> dict[str, torch.Tensor]:
    """The published seeded weights, cut and named as transformers does."""
    weights = {k: torch.from_numpy(seeded_array(k, tuple(s))) for k, (s, _) in manifest(name).items()}
    state = {}
    for key in theirs.state_dict():
        source = keys.hub_to_published(key)
        if source == "sam_prompt_encoder.point_embed.weight":
            state[key] = torch.cat([weights[f"sam_prompt_encoder.point_embeddings.{i}.weight"] for i in range(4)])
        elif source.endswith((".k_proj.weight", ".v_proj.weight")) and source.startswith("spatial_perceiver"):
            half = weights[source.replace(".k_proj.", ".to_kv.").replace(".v_proj.", ".to_kv.")].chunk(2)
            state[key] = half[source.endswith(".v_proj.weight")]
        else:
            state[key] = weights[source]
    return state


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "make"), [pytest.param("sam2.1-tiny", sam2, marks=pytest.mark.long), ("edgetam", edgetam)]
)
def test_same_masks(name: str, make) -> None:  # type: ignore[no-untyped-def]
    theirs = make().eval()
    state = seeded_for_hub(theirs, name)
    theirs.load_state_dict(state)
    ours = build(name, policy=FifoPolicy(pointers=FRAMES - 1))  # they take the clip's length for the longest age
    load_state(ours, state)
    assert recognise(state)[0] == name

    tracker = SamTracker(TorchRuntime(ours), logits=True)
    frames = [Frame(i, i / 25, seeded_frame(i, 1024)) for i in range(FRAMES)]
    with torch.inference_mode():
        video = torch.cat([ours.preprocess(f.rgb) for f in frames])
        module = import_module(type(theirs).__module__)
        session_class = getattr(module, type(theirs).__name__.replace("Model", "InferenceSession"))
        session = session_class(video=video, video_height=1024, video_width=1024, dtype=torch.float32)
        row = session.obj_id_to_idx(1)
        corners = {"point_coords": torch.tensor(BOX).view(1, 1, 2, 2), "point_labels": torch.tensor([[[2, 3]]])}
        session.add_point_inputs(row, 0, corners)
        session.obj_with_new_inputs = [1]
        for frame in frames:
            theirs_low = theirs(session, frame_idx=frame.index).pred_masks[0, 0].numpy()
            tracker.step(frame, [Box(object_id=1, xyxy=BOX)] if frame.index == 0 else [])
            prediction = tracker.objects[1].best.known_prediction
            assert prediction is not None
            ours_low = prediction.logits[0, 0].numpy()
            a, b = theirs_low > 0, ours_low > 0
            error = np.linalg.norm(theirs_low - ours_low) / np.linalg.norm(theirs_low)
            assert (a & b).sum() >= 0.99 * (a | b).sum()
            assert error < 1e-2, "as far apart as bfloat16 memory may make it"


def of_sam(config: SamVitConfig) -> torch.nn.Module:
    vision = transformers.SamVisionConfig(
        hidden_size=config.dim,
        num_attention_heads=config.heads,
        num_hidden_layers=config.depth,
        global_attn_indexes=list(config.global_blocks),
        mlp_dim=config.hidden,
    )
    return transformers.SamModel(transformers.SamConfig(vision_config=vision)).eval()


PROMPTS = (
    ([(300.0, 420.0)], [1], {"input_points": [[[[300.0, 420.0]]]], "input_labels": [[[1]]]}),
    ([BOX[:2], BOX[2:]], [2, 3], {"input_boxes": [[list(BOX)]]}),
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [SamVitConfig(48, 4, 3, (1,), 80), pytest.param(None, marks=pytest.mark.long)],
    ids=["small", "sam-vit-b"],
)
@torch.inference_mode()
def test_same_masks_of_an_image(config: SamVitConfig | None) -> None:
    name = "sam-vit-b"
    ours = ImageModel(IMAGE_SPECS[name]).eval()
    if config is not None:
        ours.encoder = build_encoder(config)
    theirs = of_sam(config or ENCODERS.find(name))
    state = {}
    for key, value in theirs.state_dict().items():
        source = keys.hub_to_published(key, sam=True)
        state[key] = torch.from_numpy(seeded_image_array(source, tuple(value.shape)))
    theirs.load_state_dict(state)
    load_state(ours, state)
    assert recognise(state) == ([] if config else [name])

    image = ours.preprocess(seeded_frame(0, 1024))
    features = ours.encode(image)
    embeddings = theirs.get_image_embeddings(image)
    assert float((features.coarse - embeddings).norm() / embeddings.norm()) < 1e-5
    for xy, labels, prompts in PROMPTS:
        points = PromptTensors(torch.tensor([xy]), torch.tensor([labels]))
        candidates = ours.decode(features, ours.embedding(features), points)
        inputs = {key: torch.tensor(value) for key, value in prompts.items()}
        output = theirs(image_embeddings=embeddings, multimask_output=True, **inputs)
        masks = output.pred_masks[0]
        error = float((candidates.logits_bnhw[:, 1:] - masks).norm() / masks.norm())
        assert error < 1e-3, "their decoder's LayerNorms have eps 1e-6, the published ones 1e-5"
        torch.testing.assert_close(candidates.quality_bn[:, 1:], output.iou_scores[0], atol=1e-3, rtol=1e-3)
