"""SqueezeSAM: how prompts are drawn, and the segmenter on them."""

import logging
from functools import cache

import numpy as np
import pytest
import torch

from samvideo.errors import PromptError
from samvideo.networks.squeeze_sam import SqueezeSam, SqueezeSamConfig, build, draw_prompts
from samvideo.segmenters.squeeze_sam import BATCH, SqueezeSamImage, SqueezeSamSegmenter, _warn_of_unseen_clicks
from samvideo.specs import IMAGE_SPECS
from samvideo.tensors import PromptTensors
from samvideo.types import Box, Points, Prompt

SIZE = (40, 30)
RGB = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)


def drawn(xy: list[tuple[float, float]], labels: list[int]) -> list[torch.Tensor]:
    points = PromptTensors(torch.tensor([xy]), torch.tensor([labels]))
    return list(draw_prompts(points, (64, 64))[0])


def test_a_box_is_filled_with_its_edges() -> None:
    box, clicks = drawn([(10.0, 20.0), (12.0, 25.0)], [2, 3])
    assert box.sum() == 3 * 6
    assert box[20:26, 10:13].all()
    assert not clicks.any()


def test_edges_between_pixels_leave_out_the_pixels_outside() -> None:
    box, _ = drawn([(10.4, 20.4), (12.6, 25.6)], [2, 3])
    assert box.sum() == 2 * 5


def test_without_a_box_its_map_is_ones_and_only_clicks_on_the_object_are_drawn() -> None:
    box, clicks = drawn([(32.0, 32.0)], [1])
    assert box.all()
    assert clicks.sum() == 81, "a disc of radius 5"
    more = drawn([(32.0, 32.0), (10.0, 10.0)], [1, 0])
    assert torch.equal(more[0], box)
    assert torch.equal(more[1], clicks)
    assert drawn([(32.0, 32.0), (10.0, 10.0)], [1, 1])[1].sum() == 2 * 81


def test_the_box_lies_between_the_first_two_points_unless_a_click_on_the_object_comes_first() -> None:
    turned, clicks = drawn([(12.0, 25.0), (10.0, 20.0)], [0, 1])
    assert turned.sum() == 3 * 6
    assert turned[20:26, 10:13].all()
    assert clicks.sum() == 81
    single, clicks = drawn([(12.0, 25.0)], [0])
    assert single.sum() == single[25, 12] == 1
    assert not clicks.any()


@cache
def image() -> SqueezeSamImage:
    torch.manual_seed(0)
    network = build(SqueezeSamConfig((8, 8, 8, 16), heads=2))
    return SqueezeSamSegmenter(network).embed(RGB)


def test_many_prompts_are_answered_as_one_by_one() -> None:
    prompts: list[Prompt] = [Box((i, 2, 20 + i, 25), object_id=i + 1) for i in range(BATCH)]
    prompts += [Points([(20, 10)], object_id=50), Box((1, 2, 30, 28), object_id=51), Points([(4, 4)], object_id=51)]
    together = image().segment(prompts)
    assert [found.object_id for found in together] == [1, 2, 3, 4, 50, 51]
    alone = [image().segment([p for p in prompts if p.object_id == found.object_id])[0] for found in together]
    for found, one in zip(together, alone, strict=True):
        assert found.masks_nhw.shape == (3, SIZE[1], SIZE[0])
        assert found.chosen == found.quality_n.argmax()
        assert np.allclose(found.quality_n, one.quality_n, atol=1e-5)
        assert (found.masks_nhw == one.masks_nhw).mean() > 0.99


def test_what_the_network_cannot_see_is_said(caplog: pytest.LogCaptureFixture) -> None:
    plain = image().segment([Points([(20, 10)], object_id=1)])[0]
    _warn_of_unseen_clicks.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            mixed = image().segment([Points([(3, 3), (20, 10)], [0, 1], object_id=1)])[0]
    assert caplog.text.count("have no effect") == 1
    assert np.array_equal(plain.masks_nhw, mixed.masks_nhw)
    with pytest.raises(PromptError, match="no box and no click on it"):
        image().segment([Points([(3, 3)], [0], object_id=1)])


def test_half_precision_changes_little() -> None:
    torch.manual_seed(1)
    network: SqueezeSam = build(SqueezeSamConfig((8, 8, 16), heads=2)).eval()
    inputs = torch.rand(1, 5, 64, 64)
    with torch.inference_mode():
        exact, _ = network(inputs)
        network.convert(torch.device("cpu"), torch.bfloat16)
        rough, _ = network(inputs)
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).norm() / exact.norm() < 0.05


def test_prompts_are_in_pixels_of_the_input() -> None:
    assert IMAGE_SPECS["squeezesam"].prompt_wh == IMAGE_SPECS["squeezesam"].input_wh == (512, 512)
