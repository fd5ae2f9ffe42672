"""`samvideo prune` and `samvideo search` on a tiny model, and what they write."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_sam import TINY_VIT, picture
from typer.testing import CliRunner

from samvideo.checkpoints import load_any
from samvideo.cli.main import app
from samvideo.compress.slim import left_of
from samvideo.encoders import vit
from samvideo.image_model import ImageModel
from samvideo.specs import IMAGE_SPECS, PictureRule
from samvideo.weights.catalog import CATALOG

NAME = "sam-vit-tiny"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight pictures with masks; a model of two blocks is known."""
    monkeypatch.setitem(vit.VARIANTS, "vit-tiny", TINY_VIT)
    rule = PictureRule("stretch", "bilinear")
    spec = replace(IMAGE_SPECS["sam-vit-b"], name=NAME, encoder="vit-tiny", input_wh=(64, 64), picture=rule)
    monkeypatch.setitem(IMAGE_SPECS, NAME, spec)
    monkeypatch.setitem(CATALOG, NAME, replace(CATALOG["sam-vit-b"], name=NAME))
    for folder in ("images", "masks"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    for i in range(8):
        rgb = picture(i)
        Image.fromarray(rgb).save(tmp_path / "set" / "images" / f"{i}.png")
        mask = (rgb == (230, 40, 90)).all(-1).astype(np.uint8)
        Image.fromarray(mask).save(tmp_path / "set" / "masks" / f"{i}.png")
    return tmp_path


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(x) for x in arguments])
    assert done.exit_code == 0, done.output
    return done.output


def loaded(file: Path) -> ImageModel:
    model = load_any(weights=file)
    assert isinstance(model, ImageModel)
    return model


def test_prune_and_prune_again(data: Path) -> None:
    once, twice = data / "once.safetensors", data / "twice.safetensors"
    output = run("prune", f"{NAME}=random", "--data", data, "-o", once, "--steps", 2)
    assert all(word in output for word in ("before", "embedding cut", "distilled", "IoU truth", "ms"))
    assert left_of(loaded(once).encoder).embedding == [TINY_VIT.dim // 2]
    run("prune", "--weights", once, "--data", data, "-o", twice, "--test", data / "set", "--steps", 0)
    model = loaded(twice)
    assert left_of(model.encoder).embedding == [TINY_VIT.dim // 4]
    image = model.preprocess(picture(0))
    with torch.no_grad():
        assert torch.equal(model.encode(image).coarse, loaded(twice).encode(image).coarse)


def test_search(data: Path) -> None:
    out = data / "found.safetensors"
    options = ["--budget-ms", 1000, "--generations", 1, "--images", 2, "--steps", 2]
    output = run("search", f"{NAME}=random", "--data", data, "-o", out, *options)
    assert all(word in output for word in ("before", "searched", "distilled", "widths of MLPs"))
    assert loaded(out).name == NAME


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["prune", "nano"], 2, "plain ViT"),
        (["prune", f"{NAME}=random", "--keep", "1"], 2, "keep 1"),
        (["prune", f"{NAME}=random", "--keep", "0.01"], 2, "choose a smaller one"),
        (["prune", f"{NAME}=random", "--data", "nowhere"], 3, "no pictures"),
        (["prune", f"{NAME}=random", "-o", "a.pt"], 2, r".safetensors expected"),
        (["prune"], 2, "name a model"),
        (["search", f"{NAME}=random", "--budget-ms", "0"], 2, "the smallest encoder"),
        (["search", f"{NAME}=random", "--budget-ms", "1", "--budget-share", "0.5"], 2, "given twice"),
    ],
)
def test_wrong_input_is_named(data: Path, arguments: list[str], code: int, words: str) -> None:
    if "--data" not in arguments:
        arguments = [*arguments, "--data", str(data)]
    if "-o" not in arguments:
        arguments = [*arguments, "-o", str(data / "out.safetensors")]
    done = CliRunner().invoke(app, arguments)
    assert (done.exit_code, words in done.output) == (code, True), done.output
    assert not (data / "out.safetensors").exists()
