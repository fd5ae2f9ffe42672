"""Pictures to inputs and back, where an input has its picture's aspect ratio."""

import numpy as np
import pytest
import torch
from tiny_sam import box_model, picture

from samvideo.geometry import mask_box
from samvideo.picture_sizes import area_wh
from samvideo.segmenters.image_model import ImageModelSegmenter
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.sam import SamTracker
from samvideo.types import Box, Frame, Mask, Points

SIZES = [(854, 480), (480, 854), (1920, 1080), (100, 100), (1000, 60)]
INPUT_WH = (432, 240)


def test_inputs_keep_aspect_ratio_and_area() -> None:
    found = {size: area_wh(size, (864, 480), 32) for size in (*SIZES, (10000, 20), (3, 4000))}
    assert found[854, 480] == found[1920, 1080] == (864, 480)
    assert found[480, 854] == (480, 864)
    assert found[100, 100] == (640, 640)
    assert found[1000, 60] == (2624, 160)
    assert found[10000, 20] == (3232, 128)
    assert found[3, 4000] == (128, 3232)
    assert area_wh((640, 480), (64, 64), 32) == (128, 128), "four cells at least"


@pytest.mark.parametrize("size_wh", SIZES, ids=str)
def test_prompts_and_masks_are_placed_alike(size_wh: tuple[int, int]) -> None:
    """A decoder that answers with the box gives it back at the size of the frame, to within a cell."""
    width, height = size_wh
    model = box_model(INPUT_WH)
    cell = 4 * np.array(size_wh) / model.spec_for(size_wh).input_wh
    box = Box(object_id=1, xyxy=(0.25 * width, 0.3 * height, 0.55 * width, 0.8 * height))
    click = Points(object_id=2, xy=[(0.7 * width, 0.4 * height)])
    half = model.decoder.HALF * np.array(size_wh)
    expected = [box.xyxy, (*(click.xy[0] - half), *(click.xy[0] + half))]
    rgb = picture(0, size_wh)
    tracked = SamTracker(TorchRuntime(model)).step(Frame(0, 0.0, rgb), [box, click]).masks
    segmented = [found.best for found in ImageModelSegmenter(model).embed(rgb).segment([box, click])]
    for mask, ours, wanted in zip(tracked, segmented, expected, strict=True):
        assert mask.shape == (height, width)
        assert np.array_equal(mask, ours)
        assert (np.abs(np.subtract(mask_box(mask), wanted)) <= np.tile(cell, 2) + 1).all()


def test_given_masks_and_memory_have_the_shape_of_the_input() -> None:
    model = box_model(INPUT_WH)
    runtime = TorchRuntime(model)
    mask = np.zeros((300, 100), bool)
    mask[100:200, 20:60] = True
    tracker = SamTracker(runtime)
    result = tracker.step(Frame(0, 0.0, picture(0, (100, 300))), [Mask(object_id=1, mask=mask)])
    assert np.array_equal(result.masks[0], mask)
    prediction = tracker.objects[1].best.known_prediction
    width, height = runtime.input_size((100, 300))
    assert prediction.logits.shape == (1, 1, height // 4, width // 4)
    assert tracker.objects[1].best.bank.entries[0].tokens.grid == (height // 16, width // 16)
    half = torch.nn.functional.interpolate(prediction.logits, size=(300, 100), mode="bilinear")[0, 0].numpy() > 0
    assert (half ^ mask).sum() < 0.1 * mask.sum()
    assert tracker.step(Frame(1, 0.04, picture(1, (100, 300)))).masks.shape == (1, 300, 100)
