"""Prompters by name, with options as text."""

import pytest
from tiny_sam import box_model

from samvideo.demo import demo_frames
from samvideo.errors import ConfigError
from samvideo.option_text import options_of, options_text, split_options, with_options
from samvideo.prompters.factory import find_prompter, load_prompter
from samvideo.prompters.grid import GridConfig, GridPrompter
from samvideo.segmenters.factory import load_segmenter
from samvideo.segmenters.image_model import ImageModelSegmenter


def test_options_of_a_config_and_of_those_in_it() -> None:
    config = with_options(GridConfig(), "points=16,quality=0.7,crop_layers=1", "the prompter grid")
    assert (config.points, config.keep.quality, config.keep.stability, config.crop_layers) == (16, 0.7, 0.95, 1)
    assert options_text(options_of(config)).startswith("points=16, quality=0.7, stability=0.95, offset=1.0")
    assert with_options(GridConfig(), None, "grid") == GridConfig()


def test_names_files_and_options_are_told_apart() -> None:
    assert split_options("grid:points=16") == ("grid", "points=16")
    assert split_options("learned=a:b=c.safetensors") == ("learned=a:b=c.safetensors", None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("grid:point=1", "the prompter grid has no option 'point'; its options and their defaults are: points=32"),
        ("grid:points=many", "option 'points' of the prompter grid is a whole number, not 'many'"),
        ("learned:quality=", "option 'quality' of the prompter learned is a number, not ''"),
        ("boxes:points=1", "the prompter boxes has no options"),
        ("gird:points=1", "there is no prompter 'gird'"),
    ],
)
def test_wrong_options_are_refused_before_a_model_is_loaded(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_prompter(name, "nano")
    assert message in str(caught.value)


def test_options_reach_the_prompter() -> None:
    prompter = load_prompter("grid:points=3,stability=0.1", ImageModelSegmenter(box_model((64, 64))))
    assert isinstance(prompter, GridPrompter)
    assert (prompter.config.points, prompter.config.keep.quality, prompter.config.keep.stability) == (3, 0.88, 0.1)


def test_masks_of_the_bundled_model_pass_its_own_thresholds() -> None:
    """None of them passes SAM's."""
    rgb, truths = next(iter(demo_frames(1, (320, 180))))
    found = load_prompter("grid:points=6", load_segmenter("nano")).propose(rgb)
    assert max((one.mask & truths[0]).sum() / (one.mask | truths[0]).sum() for one in found) > 0.7
