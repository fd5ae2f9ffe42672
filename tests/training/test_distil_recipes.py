"""The recipes of `samvideo distill`: what their losses reach, and their options."""

from collections.abc import Callable

import pytest
import tiny_sam
import torch

from samvideo.errors import ConfigError
from samvideo.models import VideoModel
from samvideo.tensors import MaskCandidates
from samvideo.training.distil_agreement import agreement
from samvideo.training.distil_prompts import quality_error
from samvideo.training.distil_recipe import Lesson, Recipe, encoded, feature_loss, parse_recipe


@pytest.fixture(scope="module")
def teacher() -> VideoModel:
    return tiny_sam.tiny_model().eval().requires_grad_(False)


@pytest.fixture
def lesson_of(teacher: VideoModel) -> Callable[[Recipe], Lesson]:
    """The last step of a training on a clip of two frames."""
    frames = torch.stack([torch.from_numpy(frame.rgb.transpose(2, 0, 1)) for frame in tiny_sam.clip(2)])

    def lesson(recipe: Recipe) -> Lesson:
        features, further = recipe.taught(frames)
        return Lesson(frames / 255, features, tuple(further), 0.99)

    return lesson


def test_validation_and_losses_have_one_error_of_features(
    teacher: VideoModel, lesson_of: Callable[[Recipe], Lesson]
) -> None:
    student = tiny_sam.randomise(tiny_sam.tiny_model(), 1)
    recipe = parse_recipe("features")[1].build(student, teacher)
    pictures = torch.stack([torch.from_numpy(frame.rgb.transpose(2, 0, 1)) for frame in tiny_sam.clip(2)])
    found = agreement(student, teacher, pictures, torch.ones(2, 2))
    own, theirs = encoded(student, pictures), encoded(teacher, pictures)
    assert found["feature error"] == pytest.approx(feature_loss(own.coarse, theirs.coarse).item())
    assert recipe.losses(lesson_of(recipe))["features"].item() >= found["feature error"]


def test_the_error_of_ratings_by_hand() -> None:
    mask = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    logits = torch.tensor([[[[1.0, 1.0], [-1.0, -1.0]], [[1.0, -1.0], [-1.0, -1.0]]]])  # IoU 1 and 0.5
    quality = torch.tensor([[0.9, 0.8]], requires_grad=True)
    candidates = MaskCandidates(logits, quality, torch.zeros(1, 2, 0), torch.zeros(1))
    error = quality_error(candidates, mask)
    assert error.tolist() == pytest.approx([(0.1 + 0.3) / 2])
    error.sum().backward()
    assert quality.grad is not None
    assert quality.grad.tolist() == [[-0.5, 0.5]]


@pytest.mark.parametrize("name", ["prompts", "full", "video:length=2,stride=1"])
def test_recipes_that_change_the_decoder_teach_its_ratings(
    teacher: VideoModel, lesson_of: Callable[[Recipe], Lesson], name: str
) -> None:
    student = tiny_sam.tiny_model()
    recipe = parse_recipe(name)[1].build(student, teacher)
    sum(recipe.losses(lesson_of(recipe)).values()).backward()
    for parameter in student.decoder.iou_prediction_head.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    last = student.decoder.iou_prediction_head.layers[-1].bias.grad
    assert last.abs().max() > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layers:last=1", "'last' of a recipe is 1.0: a number from 0 to 0.99"),
        ("prompts:rounds=0", "'rounds' of a recipe is 0: at least 1"),
        ("prompts:encoder=2", "'encoder' of a recipe is 2.0"),
        ("full:rounds=0", "'rounds'"),
        ("full:objects=0", "'objects'"),
        ("sami:heads=7", "'heads' of a recipe is 7: a divisor of 256"),
        ("sami:heads=0", "'heads'"),
        ("sami:hidden=1.5", "'hidden'"),
        ("video:length=1", "'length' of a recipe is 1: at least 2"),
        ("video:stride=0", "'stride'"),
        ("features:rate=-1", "'rate'"),
        ("features:seed=5", "has no option 'seed'"),
        ("features:steps=5", "has no option 'steps'"),
    ],
)
def test_options_that_no_training_can_have_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_recipe(text)


@pytest.mark.parametrize("hidden", [0, 1])
def test_some_cells_are_hidden_and_some_are_not(
    teacher: VideoModel, lesson_of: Callable[[Recipe], Lesson], hidden: int
) -> None:
    recipe = parse_recipe(f"sami:hidden={hidden},whole=0")[1].build(tiny_sam.tiny_model(), teacher)
    assert recipe.losses(lesson_of(recipe))["reconstruction"].isfinite()
