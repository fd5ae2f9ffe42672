"""The heads of the bundled model: prompts are drawn where they are, in frames of every shape."""

import pytest
import torch
from torch import Tensor

from samvideo.heads import nano
from samvideo.tensors import PromptTensors

SIZES = [(96, 64), (48, 112), (320, 320)]
"""Width and height of the input."""
BOX, RIM, NEAR_ON, AROUND_ON, NEAR_OFF, AROUND_OFF = range(nano.PROMPT_MAPS)


def maps(size_wh: tuple[int, int], *points: tuple[float, float, int]) -> Tensor:
    """(PROMPT_MAPS, H/4, W/4) of (x, y, label)."""
    prompts, _ = nano.build(nano.NanoHeadsConfig())
    xy = torch.tensor([[point[:2] for point in points]])
    return prompts.points(PromptTensors(xy, torch.tensor([[point[2] for point in points]])), size_wh)[0]


def centres(size_wh: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """x and y of the middle of each cell of stride 4, in pixels: that of pixel 0 is 0."""
    return torch.arange(1.5, size_wh[0], 4)[None, :], torch.arange(1.5, size_wh[1], 4)[:, None]


@pytest.mark.parametrize("size_wh", SIZES)
@pytest.mark.parametrize("box", [(0.25, 0.25, 0.75, 0.5), (0, 0, 0.5, 1), (0.8, 0.7, 1, 1), (0, 0, 1, 1)])
def test_boxes(size_wh: tuple[int, int], box: tuple[float, float, float, float]) -> None:
    """Filled inside, zero outside, a rim where the sides are; also at the borders of the input."""
    width, height = size_wh
    x1, y1, x2, y2 = (share * side for share, side in zip(box, (width, height) * 2, strict=True))
    drawn = maps(size_wh, (x1, y1, 2), (x2, y2, 3))
    x, y = centres(size_wh)
    depth = torch.minimum(torch.minimum(x - x1, x2 - x), torch.minimum(y - y1, y2 - y))
    assert drawn.shape == (nano.PROMPT_MAPS, height // 4, width // 4)
    assert torch.equal(drawn[BOX] > 0.5, depth > 0)
    assert (drawn[BOX][depth < -0.1 * min(size_wh)] < 1e-3).all()
    assert (drawn[RIM][depth.abs() > 0.1 * min(size_wh)] < 1e-3).all()
    assert drawn[RIM][depth.abs() <= 2].min() > 0.01
    assert not drawn[2:].any()


@pytest.mark.parametrize("size_wh", SIZES)
@pytest.mark.parametrize("place", [(0.5, 0.4), (0, 0), (1, 1), (0.02, 0.97)])
def test_clicks(size_wh: tuple[int, int], place: tuple[float, float]) -> None:
    """A narrow and a wide blob around each click, on the object and beside it, round in pixels."""
    width, height = size_wh
    at = place[0] * (width - 1), place[1] * (height - 1)
    other = (width - 1) / 2, (height - 1) / 2
    drawn = maps(size_wh, (*at, 1), (*other, 0))
    x, y = centres(size_wh)
    for found, (px, py) in ((NEAR_ON, at), (AROUND_ON, at), (NEAR_OFF, other), (AROUND_OFF, other)):
        distance = (x - px) ** 2 + (y - py) ** 2
        assert distance.flatten()[drawn[found].argmax()] == distance.min()
        deviation = nano.RADII[found % 2] * min(size_wh)
        assert torch.allclose(drawn[found], torch.exp(-distance / (2 * deviation**2)), atol=1e-5)
    assert not drawn[:2].any()


def test_several_clicks_and_padding() -> None:
    """Each click has its blob; padding, and no prompt at all, leave nothing."""
    both = maps((96, 64), (10, 10, 1), (80, 50, 1), (0, 0, -1))
    assert torch.equal(both, torch.maximum(maps((96, 64), (10, 10, 1)), maps((96, 64), (80, 50, 1))))
    assert not maps((96, 64), (3, 3, -1), (9, 9, -1)).any()
    prompts, _ = nano.build(nano.NanoHeadsConfig())
    nothing = prompts.points(prompts.no_points(3), (96, 64))
    assert nothing.shape == (3, nano.PROMPT_MAPS, 16, 24)
    assert not nothing.any()


@torch.inference_mode()
def test_objects_of_a_batch_do_not_mix() -> None:
    torch.manual_seed(0)
    prompts, decoder = nano.build(nano.NanoHeadsConfig(widths=(8, 8, 16), blocks=(1, 1, 2)))
    image = torch.randn(3, 256, 4, 6)
    fine = torch.randn(1, 24, 16, 24), torch.randn(1, 40, 8, 12)
    points = torch.rand(3, nano.PROMPT_MAPS, 16, 24)
    together = decoder(image + prompts.dense(torch.randn(3, 1, 16, 24), (4, 6)), None, points, fine)
    assert together.logits_bnhw.shape == (3, nano.MASKS, 16, 24)
    assert together.quality_bn.shape == (3, nano.MASKS)
    assert ((together.quality_bn > 0) & (together.quality_bn < 1)).all()
    without = decoder(image, None, points, fine)
    for row in range(3):
        one = decoder(image[row : row + 1], None, points[row : row + 1], fine)
        assert torch.allclose(one.logits_bnhw, without.logits_bnhw[row : row + 1], atol=1e-5)
        assert torch.allclose(one.quality_bn, without.quality_bn[row : row + 1], atol=1e-5)
        assert torch.allclose(one.presence_b, without.presence_b[row : row + 1], atol=1e-5)


@torch.inference_mode()
def test_an_earlier_mask_and_its_absence_are_told_apart() -> None:
    """No mask adds nothing; the emptiest mask does add something."""
    prompts, _ = nano.build(nano.NanoHeadsConfig())
    assert not prompts.dense(None, (4, 6)).any()
    empty = prompts.dense(torch.full((2, 1, 16, 24), -20.0), (4, 6))
    assert empty.shape == (2, 256, 4, 6)
    assert empty.any()
