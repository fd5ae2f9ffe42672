"""Distillation from the bundled model, which is convolutional and answers prompts in windows."""

from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch
from tiny_sam import picture

from samvideo.checkpoints import load
from samvideo.encoders import efficientnet_lite
from samvideo.specs import BUNDLED, NANO, SPECS
from samvideo.training.distil import Inputs, Pair, Plan, distil
from samvideo.training.distil_recipe import Lesson

LIGHT = "nano-light"


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch) -> None:
    """A student like the teacher, with one block in each stage of its encoder."""
    encoder = f"{NANO.encoder}-light"
    config = replace(efficientnet_lite.VARIANTS[NANO.encoder], blocks=1)
    monkeypatch.setitem(efficientnet_lite.VARIANTS, encoder, config)
    for specs in (SPECS, BUNDLED):
        monkeypatch.setitem(specs, LIGHT, replace(NANO, name=LIGHT, encoder=encoder))


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    for number in range(2):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture(number, (90, 60)))
    return Inputs(LIGHT, "nano", tmp_path, workers=0)


@pytest.mark.parametrize("recipe", ["features", "prompts:objects=1", "full:objects=1", "layers", "sami"])
def test_a_lighter_encoder_learns_from_it_by_every_recipe_of_pictures(inputs: Inputs, recipe: str) -> None:
    pair = Pair(inputs, Plan(recipe))
    assert pair.shared == len(pair.student.state_dict()), "all its layers are the teacher's, which has more"
    pixels, covered = pair.squares(pair.found.train)[0]
    assert pixels.shape == (3, 320, 320), "the size of a window"
    assert covered.tolist() == [1, 1]
    features, further = pair.recipe.taught(pixels[None])
    for progress in (0.3, 0.9):
        lesson = Lesson(pixels[None] / 255, features, tuple(further), progress)
        sum(pair.recipe.losses(lesson).values()).backward()
        gradient = pair.student.encoder.stem[0].weight.grad
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0


def test_the_student_is_saved_whole(inputs: Inputs, tmp_path: Path) -> None:
    file = tmp_path / "out/light.safetensors"
    distil(inputs, Plan("features", 1, batch=1, validated=1), file, print)
    model = load(LIGHT, weights=file)
    assert model.spec.window == NANO.window
    before, theirs = Pair(inputs, Plan()), load("nano")
    after = model.state_dict()
    assert all(
        torch.equal(after[name], value) for name, value in theirs.decoder.state_dict(prefix="decoder.").items()
    )
    name = "encoder.neck.weight"
    assert not torch.equal(after[name], before.student.state_dict()[name])
