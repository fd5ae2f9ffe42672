"""Exported image models segment as the models do."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_sam import TINY_VIT, picture

from samvideo.encoders.vit import PlainVit
from samvideo.errors import ConfigError
from samvideo.image_model import ImageModel
from samvideo.pictures import to_input as torch_input
from samvideo.pictures import to_picture as torch_picture
from samvideo.segmenters.base import EmbeddedImage, Segmentation
from samvideo.segmenters.factory import load_segmenter
from samvideo.segmenters.image_model import ImageModelSegmenter
from samvideo.specs import IMAGE_SPECS
from samvideo.types import Box, Points

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from samvideo.deploy.bundle import export_model
from samvideo.deploy.image_pictures import to_input, to_picture


def tiny_image_model(like: str) -> ImageModel:
    """A model with the heads and the rules of a published one, around a two-block ViT."""
    torch.manual_seed(0)
    picture_rule = IMAGE_SPECS[like].picture
    side = None if picture_rule.prompt_side is None else 64
    rule = replace(picture_rule, prompt_side=side)
    model = ImageModel(replace(IMAGE_SPECS[like], name="tiny", encoder="vit-ti", input_wh=(64, 64), picture=rule))
    model.encoder = PlainVit(TINY_VIT)
    return model.eval()


def answers(image: EmbeddedImage) -> list[Segmentation]:
    prompts = [Box((10, 10, 40, 30), object_id=1), Points([[30.0, 20.0]], [1], object_id=2)]
    found = image.segment(prompts)
    corrected = {one.object_id: one for one in found}
    mask = {1: np.ones((48, 70), bool)}
    more = [Points([[12.0, 12.0], [50.0, 40.0]], [0, 1], object_id=1)]
    return [
        *found,
        *image.segment([*more, *prompts[1:]], previous=corrected),
        *image.segment(more, previous=mask, multimask=True),
    ]


@pytest.mark.long
@pytest.mark.parametrize("like", ["mobilesam", "efficientsam-ti", "nanosam", "edgesam", "tinysam"])
def test_segments_as_the_model_does(like: str, tmp_path: Path) -> None:
    export_model(tiny_image_model(like), tmp_path / "m")
    rgb = picture(3, (70, 48))
    theirs = answers(load_segmenter(weights=tmp_path / "m", runtime="onnx").embed(rgb))
    for a, b in zip(answers(ImageModelSegmenter(tiny_image_model(like)).embed(rgb)), theirs, strict=True):
        assert (a.object_id, a.chosen) == (b.object_id, b.chosen)
        assert a.logits_nhw is not None
        assert b.logits_nhw is not None
        assert np.abs(a.logits_nhw - b.logits_nhw).max() <= 1e-3
        assert np.allclose(a.quality_n, b.quality_n, atol=1e-3)
        assert np.mean(a.masks_nhw != b.masks_nhw) <= 1e-3


@pytest.mark.parametrize("like", ["mobilesam", "efficientsam-ti", "nanosam"])
@pytest.mark.parametrize("size_wh", [(70, 48), (41, 90), (64, 64)], ids=str)
def test_pictures_are_those_of_the_model(like: str, size_wh: tuple[int, int]) -> None:
    spec = tiny_image_model(like).spec
    rgb = picture(2, size_wh)
    assert np.allclose(to_input(rgb, spec), torch_input(rgb, spec, torch.device("cpu")).numpy(), atol=1e-5)
    logits = np.random.default_rng(0).normal(size=(2, 16, 16)).astype(np.float32)
    expected = torch_picture(torch.from_numpy(logits)[None], size_wh, spec)[0].numpy() > 0
    assert np.mean(to_picture(logits, size_wh, spec) != expected) <= 1e-3


def test_exports_serve_their_purpose_only(tmp_path: Path) -> None:
    """An image model does not track, a video model does not segment, and torch is not imported."""
    export_model(tiny_image_model("mobilesam"), tmp_path / "m")
    code = f"""
import sys
import numpy as np
from samvideo.segmenters.factory import load_segmenter
from samvideo.types import Box
image = load_segmenter(weights={str(tmp_path / "m")!r}, runtime="onnx").embed(np.zeros((48, 64, 3), np.uint8))
print(image.segment([Box((5, 5, 30, 30))])[0].best.shape, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(48, 64) False"
    from samvideo.deploy.onnx_runtime import open_onnx

    with pytest.raises(ConfigError, match="cannot track"):
        open_onnx(tmp_path / "m")
    with pytest.raises(ConfigError, match="holds tiny, not mobilesam"):
        load_segmenter("mobilesam", weights=tmp_path / "m", runtime="onnx")
    with pytest.raises(ConfigError, match="one object at a time"):
        export_model(tiny_image_model("mobilesam"), tmp_path / "other", objects=2)


@pytest.mark.parametrize(
    ("options", "message"), [({"runtime": "onnx"}, "export-model NAME"), ({"runtime": "abacus"}, "torch or onnx")]
)
def test_runtimes_that_do_not_fit(options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_segmenter("mobilesam", **options)
