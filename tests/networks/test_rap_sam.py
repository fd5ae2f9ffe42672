"""RAP-SAM: its deformable convolution, its two tasks, and the segmenter."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from samvideo.errors import ConfigError, PromptError, WeightsError
from samvideo.networks.rap_sam import RapSam, RapSamConfig, build, read_classes
from samvideo.networks.rap_sam_neck import DeformConv
from samvideo.object_prompts import group_prompts
from samvideo.segmenters.rap_sam import RapSamImage, RapSamSegmenter, fitted, query_boxes
from samvideo.specs import IMAGE_SPECS
from samvideo.types import Box, Points, Prompt

SIZE = (40, 30)
RGB = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
SPEC = replace(IMAGE_SPECS["rap-sam-r50"], input_wh=(160, 96))


def test_taps_that_do_not_move_make_a_plain_convolution() -> None:
    torch.manual_seed(0)
    layer, x = DeformConv(4, 5), torch.randn(2, 4, 6, 1)  # a map of one column, too
    weights = torch.ones(2, 9, 6, 1)
    with torch.inference_mode():
        plain = F.conv2d(x, layer.weight, padding=1)
        assert torch.allclose(layer(x, torch.zeros(2, 18, 6, 1), weights), plain, atol=1e-5)
        assert torch.allclose(layer(x, torch.zeros(2, 18, 6, 1), weights / 2), plain / 2, atol=1e-5)


def test_taps_read_between_pixels_and_zeros_outside() -> None:
    layer = DeformConv(1, 1)
    x = torch.arange(20.0).view(1, 1, 4, 5)
    offsets, weights = torch.zeros(1, 18, 4, 5), torch.zeros(1, 9, 4, 5)
    weights[:, 5] = 1.0  # the tap at the right
    offsets[:, 10], offsets[:, 11] = 0.25, -0.5  # moves down by 0.25 and to the left by 0.5
    with torch.inference_mode():
        layer.weight[:] = 1.0
        out = layer(x, offsets, weights)[0, 0]
    assert torch.isclose(out[1, 2], torch.tensor(1.25 * 5 + 2.5))
    assert torch.isclose(out[1, 4], torch.tensor(0.5 * (1.25 * 5 + 4))), "half of it is outside"
    assert torch.isclose(out[3, 2], torch.tensor(0.75 * 17.5)), "a quarter of it is outside"


def test_images_fit_whichever_way_they_lie() -> None:
    assert fitted((640, 427), (1333, 800))[1] == (1199, 800)
    assert fitted((427, 640), (1333, 800))[1] == (800, 1199)
    assert fitted((2000, 500), (1333, 800))[1] == (1333, 333)


def test_a_click_is_a_box_of_six_pixels_of_the_input() -> None:
    (prompt,) = group_prompts([Points([(10.6, 20)], object_id=1), Box((0, 15, 20, 30), object_id=1)], (), SIZE)
    boxes = query_boxes(prompt, SIZE, (80, 60))
    assert np.allclose(boxes[0], (21 / 80, 40 / 60, 6 / 80, 6 / 60))
    assert np.allclose(boxes[1], (0.25, 0.75, 0.5, 0.5))


@cache
def network() -> RapSam:
    torch.manual_seed(0)
    return build(RapSamConfig("resnet18", queries=7, class_width=16)).eval()


def embedded(classes: torch.Tensor | None = None) -> RapSamImage:
    return RapSamSegmenter(network(), classes=classes, spec=SPEC).embed(RGB)


def test_prompts_do_not_see_each_other() -> None:
    prompts: list[Prompt] = [
        Box((2, 2, 20, 20), object_id=1),
        Points([(20, 10)], object_id=2),
        Points([(20, 10), (30, 20)], object_id=3),
        Box((10, 5, 35, 28), object_id=3),
    ]
    image = embedded()
    together = image.segment(prompts)
    assert [len(found.masks_nhw) for found in together] == [1, 1, 3], "a candidate of each click and box"
    for found in together:
        (alone,) = image.segment([p for p in prompts if p.object_id == found.object_id])
        assert alone.masks_nhw.shape[1:] == SIZE[::-1]
        assert np.allclose(found.quality_n, alone.quality_n, atol=1e-5)
        assert (found.masks_nhw == alone.masks_nhw).mean() > 0.99


def test_clicks_that_are_not_on_the_object_are_refused() -> None:
    with pytest.raises(PromptError, match="object 4 has a click that is not on the object"):
        embedded().segment([Points([(20, 10), (3, 3)], [1, 0], object_id=4)])


def unit_vectors(classes: int, names: int, width: int) -> torch.Tensor:
    return F.normalize(torch.randn(classes, names, width), dim=-1)


def test_class_embeddings_come_from_a_file_and_find_objects(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "classes.pth"
    torch.save(unit_vectors(5, 2, 16), path)
    classes = read_classes(path, 16)
    assert classes.shape == (16, 6, 2)
    assert not classes[:, -1].any(), "background"
    found = embedded(classes).panoptic()
    assert 0 < len(found.masks_nhw) <= 7
    assert found.masks_nhw.shape[1:] == SIZE[::-1]
    assert len(found.masks_nhw) == len(found.classes_n) == len(found.scores_n) == len(found.quality_n)
    assert (found.classes_n < 5).all()


def test_without_class_embeddings_there_are_only_prompts() -> None:
    with pytest.raises(ConfigError, match="no class embeddings"):
        embedded().panoptic()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.ones(3, 4), "class embeddings .* expected"),
        (torch.ones(3, 2, 8), "class embeddings .* expected"),
        (torch.ones(3, 2, 16), "vectors of length 1"),
        ({"a": torch.ones(1), "b": torch.ones(1)}, "one tensor"),
        (torch.full((3, 2, 16), torch.nan), "NaN"),
    ],
)
def test_other_files_are_no_class_embeddings(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "classes.pth")
    with pytest.raises(WeightsError, match=message):
        read_classes(tmp_path / "classes.pth", 16)


def test_half_precision_keeps_coordinates_and_changes_little() -> None:
    model = build(RapSamConfig("resnet18", queries=7, class_width=16)).eval()
    model.load_state_dict(network().state_dict())
    image = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        exact = model(image)
        model.convert(torch.device("cpu"), torch.bfloat16)
        rough = model(image)
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).norm() / exact.norm() < 0.05
