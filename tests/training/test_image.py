"""`samvideo train image`: what is learned from which candidate, resuming, and loading the result."""

import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_data import save, save_all
from typer.testing import CliRunner

from samvideo.checkpoints import load_any
from samvideo.cli.main import app
from samvideo.encoders import sam_vit
from samvideo.encoders.sam_vit import SamVitConfig
from samvideo.io.masks import write_index_png
from samvideo.specs import IMAGE_SPECS
from samvideo.state_dict import build_spec
from samvideo.training import image, splits
from samvideo.training.candidates import MaskWeights, chosen_losses
from samvideo.training.engine import Stage, fit
from samvideo.training.image import RECIPES, ImageRecipe, box_iou, largest_objects
from samvideo.training.library import Library
from samvideo.training.losses import dice_loss, hard_loss

SIDE = 64
NAME = "sam-vit-mini"
TINY = ImageRecipe(1, 1, Stage(4, rate=1e-3), every=3, drawn=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = save_all(tmp_path_factory.mktemp("data"))
    kept = [name for name in map(str, range(60)) if splits.side(name) == "validation"][:2]
    for name in kept:
        save(root / "objects/open/shapes", "images", "masks", name)
    return root / "objects"


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sam_vit.VARIANTS, NAME, SamVitConfig(32, 2, 2, (1,), 64, window=3, side=SIDE // 16))
    monkeypatch.setitem(IMAGE_SPECS, NAME, replace(IMAGE_SPECS[NAME], input_wh=(SIDE, SIDE)))
    monkeypatch.setitem(RECIPES, "cpu", TINY)


def train(out: Path, *options: str | Path, name: str = NAME, code: int = 0) -> str:
    arguments = ["train", "image", name, "-o", str(out), "--device", "cpu", "--threads", "1", *map(str, options)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == code, done.output
    return done.output


def test_a_training_is_interrupted_resumed_and_used(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = train(tmp_path / "whole/m.safetensors", "--objects", data)
    assert "sam-vit-mini, seed 1, on cpu; data: open/shapes 8" in said
    assert "validation after step 3: box IoU 0." in said
    assert "validation after step 4: box IoU 0." in said
    draw = image._Steps.draw

    def interrupted(self: image._Steps, step: int) -> list[torch.Tensor]:
        if step == 1:
            signal.raise_signal(signal.SIGINT)
        return draw(self, step)

    out = tmp_path / "parts/m.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(image._Steps, "draw", interrupted)
        assert "the same command resumes it" in train(out, "--objects", data, code=130)
    assert "resumed after step 2" in train(out, "--objects", data)
    assert out.read_bytes() == (tmp_path / "whole/m.safetensors").read_bytes()
    assert "is of another recipe" in train(out, "--objects", data, "--steps", "5", code=2)
    assert "is of another recipe" in train(out, "--objects", data / "open/shapes", "--objects", data, code=2)

    loaded, written = load_any(NAME, weights=out).state_dict(), load_file(out)
    assert "image_encoder.blocks.0.mlp.lin1.weight" in written
    assert torch.equal(
        loaded["encoder.blocks.0.mlp.layers.0.weight"], written["image_encoder.blocks.0.mlp.lin1.weight"]
    )


def test_of_several_candidates_the_best_learns_and_all_ratings_do() -> None:
    truth = torch.zeros(1, 4, 4)
    truth[:, :2] = 1
    logits = torch.stack([-truth[0], 2 * truth[0] - 1, torch.zeros(4, 4)])[None].requires_grad_()
    quality = torch.tensor([[0.9, 0.1, 0.2]], requires_grad=True)
    answer, losses = chosen_losses(logits, quality, truth, MaskWeights())
    assert torch.equal(answer, logits[:, 0]), "the answer is what is rated best"
    assert losses["iou"] == 0
    assert losses["quality"].item() == pytest.approx((0.9**2 + 0.9**2 + 0.2**2) / 3)
    (losses["focal"] + losses["dice"] + losses["quality"]).backward()
    assert logits.grad is not None
    assert quality.grad is not None
    assert logits.grad.abs().sum((0, 2, 3)).bool().tolist() == [False, True, False]
    assert quality.grad.abs().bool().all()
    _, spread = chosen_losses(logits, quality, truth, MaskWeights(focal=0, hard=2, spread=0.75))
    dice, hard = dice_loss(logits[0], truth.expand(3, -1, -1)), hard_loss(logits[0], truth.expand(3, -1, -1))
    assert "focal" not in spread
    assert spread["dice"].item() == pytest.approx((0.25 * dice[1] + 0.75 * dice.mean()).item())
    assert spread["hard"].item() == pytest.approx(2 * (0.25 * hard[1] + 0.75 * hard.mean()).item())


def test_validation_asks_exact_boxes_at_the_size_of_the_input(data: Path) -> None:
    model = build_spec(IMAGE_SPECS[NAME])
    library = Library.read([data], side="validation")
    assert len(library.stills["open/shapes"]) == 2
    picture, masks, boxes = largest_objects(library.stills["open/shapes"][0], SIDE)
    assert picture.shape == (1, 3, SIDE, SIDE)
    for mask, box in zip(masks, boxes, strict=True):
        y, x = mask.nonzero(as_tuple=True)
        extent = torch.tensor([[x.min(), y.min()], [x.max() + 1.0, y.max() + 1]]) - 0.5
        assert (extent - box).abs().max() < 1.5
    assert masks.flatten(1).sum(1).diff() < 0, "the largest first"
    assert 0 <= box_iou(model, library) <= 1


def test_objects_that_are_too_small_are_not_measured(data: Path, tmp_path: Path) -> None:
    root, speck = shutil.copytree(data, tmp_path / "objects"), np.zeros((96, 128), np.uint8)
    speck[4, 4] = 1
    model = build_spec(IMAGE_SPECS[NAME])
    one, two = Library.read([root], side="validation").stills["open/shapes"]
    write_index_png(root / "open/shapes/masks" / f"{one.name}.png", speck)
    library = Library.read([root], side="validation")
    assert box_iou(model, library) == pytest.approx(box_iou(model, replace(library, stills={"shapes": [two]})))
    write_index_png(root / "open/shapes/masks" / f"{two.name}.png", speck)
    said = train(tmp_path / "m.safetensors", "--objects", root, "--steps", "1")
    assert "no validation: none of the 2 pictures to measure on shows an object of 0.03% of its area" in said


def test_what_is_refused(data: Path, tmp_path: Path) -> None:
    assert "no data" in train(tmp_path / "m.safetensors", code=2)
    assert "batch norms" in train(tmp_path / "m.safetensors", "--objects", data, name="mobilesam", code=2)
    for name in ("nano", "squeezesam", "edgetam"):
        assert "sam-vit-mini is one" in train(tmp_path / "m.safetensors", "--objects", data, name=name, code=2)
    assert not list(tmp_path.iterdir())


def test_a_few_steps_lower_the_losses(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_spec(IMAGE_SPECS[NAME])
    steps = image._Steps(model, Library.read([data]), TINY)
    pictures, masks = steps.draw(0)

    def total(step: int) -> float:
        return sum(value.item() for name, value in steps.gradients(pictures, masks).items() if "IoU" not in name)

    before = total(0)
    fit(model, lambda step: steps.gradients(pictures, masks), Stage(12, rate=1e-3), tmp_path / "state", print)
    assert total(0) < 0.8 * before
