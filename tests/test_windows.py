"""Windows around small objects: exact geometry there and back."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_sam import box_model, picture

from samvideo.errors import ConfigError
from samvideo.geometry import LEAST_SIDE, Window, cut, mask_box, window_around
from samvideo.segmenters.image_model import ImageModelSegmenter
from samvideo.specs import IMAGE_SPECS, ModelSpec
from samvideo.state_dict import build_spec
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.sam import SamTracker
from samvideo.types import Box, Frame, Mask, Points
from samvideo.windows import OUTSIDE, Detail, sample

INPUT_WH, SIZE_WH, WINDOW = (432, 240), (854, 480), 160
SMALL = Box(object_id=1, xyxy=(600, 100, 641, 125))
CORNER = Box(object_id=2, xyxy=(0, 450, 36, 480))
LARGE = Box(object_id=3, xyxy=(20, 30, 700, 470))


def test_a_window_is_around_a_box() -> None:
    assert window_around((100, 50, 140, 70)) == Window(90, 30, 60)
    assert window_around((3, 4, 5, 6)) == Window(-12, -11, LEAST_SIDE)


@pytest.mark.parametrize("window", [Window(10, 5, 20), Window(-7, 30, 40), Window(-20, -30, 150)], ids=str)
def test_the_edge_is_repeated_outside(window: Window) -> None:
    rgb = picture(0, (90, 50))
    x, y, side = window
    padded = np.pad(rgb, ((200, 200), (200, 200), (0, 0)), "edge")
    assert np.array_equal(cut(rgb, window), padded[200 + y : 200 + y + side, 200 + x : 200 + x + side])


def test_regions_of_maps() -> None:
    """All of a map resized is what interpolation gives; part of it is that part; there is nothing outside."""
    maps = torch.randn(2, 3, 20, 30)
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(2, 1)
    resized = F.interpolate(maps, (50, 70), mode="bilinear", align_corners=False)
    assert torch.allclose(sample(maps, whole, (50, 70)), resized, atol=1e-4)
    parts = torch.tensor([[0.5, 0.5, 1.5, 1.0], [0.0, 0.0, 0.5, 0.5]])
    found = sample(maps, parts, (10, 30))
    assert torch.allclose(found[0, :, :, :15], maps[0, :, 10:, 15:], atol=1e-4)
    assert (found[0, :, :, 15:] == OUTSIDE).all()
    wider = F.interpolate(maps, (20, 60), mode="bilinear", align_corners=False)
    assert torch.allclose(found[1], wider[1, :, :10, :30], atol=1e-4)


def test_what_is_pasted_lies_where_it_was_cut() -> None:
    window = Window(-6, 12, 24)
    whole = Detail(torch.ones(2, 24, 24), window).paste((60, 50))
    assert whole.shape == (2, 50, 60)
    assert (whole > 0).sum().item() == 2 * 24 * 18
    assert (whole[:, 12:36, :18] == 1).all()


def near(mask: np.ndarray, box: tuple[float, ...], pixels: float) -> bool:
    found = mask_box(mask)
    return found is not None and bool((np.abs(np.subtract(found, box)) <= pixels).all())


def test_boxes_come_back() -> None:
    """From a decoder that answers with its box: to two pixels where the whole picture gives but its cells."""
    boxes, rgb = [SMALL, CORNER], picture(0, SIZE_WH)
    answers = {}
    for window in (None, WINDOW):
        model = box_model(INPUT_WH, window=window)
        answers[window] = SamTracker(TorchRuntime(model)).step(Frame(0, 0.0, rgb), [*boxes, LARGE]).masks
        segmented = ImageModelSegmenter(model).embed(rgb).segment([*boxes, LARGE])
        assert all(np.array_equal(a, b.best) for a, b in zip(answers[window], segmented, strict=True))
    for row, box in enumerate(boxes):
        assert near(answers[WINDOW][row], box.xyxy, 2)
        assert not near(answers[None][row], box.xyxy, 2)
    assert near(answers[WINDOW][2], LARGE.xyxy, 30), "a large object in a small window"


def test_a_click_is_looked_at_twice() -> None:
    """First in the whole picture, then in the window around the best mask, which the click corrects."""
    model, rgb = box_model(INPUT_WH, window=WINDOW), picture(0, SIZE_WH)
    click = Points(object_id=1, xy=[(400, 240)])
    first = np.array([400 - 85, 240 - 48, 400 + 85, 240 + 48])
    result = SamTracker(TorchRuntime(model), logits=True).step(Frame(0, 0.0, rgb), [click])
    assert near(result.masks[0], tuple(first), 8)
    (answer,) = ImageModelSegmenter(model).embed(rgb).segment([click])
    assert answer.quality_n.shape == (3,)
    assert np.array_equal(answer.best, result.masks[0])
    assert result.logits[0][0, 0] < -5


def test_corrections_see_the_mask_and_the_clicks() -> None:
    model, rgb = box_model(INPUT_WH, window=WINDOW), picture(0, SIZE_WH)
    tracker, image = SamTracker(TorchRuntime(model)), ImageModelSegmenter(model).embed(rgb)
    tracker.step(Frame(0, 0.0, rgb), [SMALL])
    (before,) = image.segment([SMALL])
    click = Points(object_id=1, xy=[(660, 112)])
    after = tracker.step(Frame(0, 0.0, rgb), [click]).masks[0]
    corrected = [image.segment([click], previous={1: previous})[0].best for previous in (before, before.best)]
    for mask in (after, *corrected):
        assert near(mask, (600, 100, 669, 125), 6)


def test_a_saved_state_keeps_the_details() -> None:
    model, frames = box_model(INPUT_WH, window=WINDOW), [Frame(i, i / 25, picture(i, SIZE_WH)) for i in range(3)]
    one, other = (SamTracker(TorchRuntime(model), logits=True) for _ in range(2))
    given = Mask(object_id=9, mask=np.hypot(*(np.mgrid[:480, :854] - 200)) < 9)
    shown = one.step(frames[0], [SMALL, given]).logits
    other.restore(one.state())
    assert np.array_equal(other.step(frames[0]).logits, shown)
    assert np.array_equal(one.step(frames[1]).logits, other.step(frames[1]).logits)
    assert one.objects[1].best.known_prediction.detail is None


def test_absent_objects_have_no_detail() -> None:
    model = box_model(INPUT_WH, window=WINDOW)
    runtime = TorchRuntime(model)
    tracker = SamTracker(runtime)
    model.decoder.presence = -3.0
    result = tracker.step(Frame(0, 0.0, picture(0, SIZE_WH)), [SMALL])
    assert not result.present[0]
    assert not result.masks.any()
    model.decoder.presence = 1.0
    assert tracker.step(Frame(0, 0.0, picture(0, SIZE_WH)), [Points(object_id=1, xy=[(610, 110)])]).masks.any()


def test_windows_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="multiples of 16"):
        build_spec(ModelSpec("w", "vit-ti", memory=None, input_wh=(64, 64), window=90))
    with pytest.raises(ConfigError, match="without padding"):
        box_model(INPUT_WH, window=96, picture=IMAGE_SPECS["mobilesam"].picture)
