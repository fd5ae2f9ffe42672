"""`samvideo finetune --cache`: features of frames on disk change no loss, and are computed once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from miniature import miniature
from tiny_tune import NAMES, write_shapes
from typer.testing import CliRunner

from samvideo.checkpoints import load
from samvideo.cli.main import app
from samvideo.errors import ConfigError
from samvideo.evaluation.datasets import open_dataset
from samvideo.models import VideoModel
from samvideo.training import finetune
from samvideo.training.clip_sampler import ClipRule, ClipSampler
from samvideo.training.feature_cache import cached_features
from samvideo.training.finetune import FinetuneRecipe, Resources, Sequences, Task
from samvideo.training.objective import Objective
from samvideo.training.parts import choose_parts

RULE = ClipRule(length=3, objects=2, gain=0.0)
RECIPE = FinetuneRecipe(clip=RULE)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("clips"))


def losses(model: VideoModel, data: Path) -> tuple[list[dict[str, float]], torch.Tensor]:
    """Of three steps without a change of the weights, and the gradients of the last."""
    steps = finetune._gradients(model, ClipSampler(open_dataset("folder", data), NAMES, model), RECIPE)
    found = [{name: value.item() for name, value in steps(step).items()} for step in range(3)]
    return found, torch.cat([value.grad.flatten() for value in model.parameters() if value.grad is not None])


@pytest.mark.parametrize("name", ["edgetam", "efficienttam"])
def test_losses_are_the_same_with_and_without(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, said = miniature(name), list[str]()
    choose_parts(model, "decoder,memory")
    expected, gradients = losses(model, data)
    with cached_features(model, tmp_path, said.append):
        computed, _ = losses(model, data)
    encode = type(model.encoder).forward
    monkeypatch.setattr(type(model.encoder), "forward", lambda *_: pytest.fail("all features are there"))
    with cached_features(model, tmp_path, said.append):
        read, again = losses(model, data)
    assert computed == read == expected
    assert torch.equal(again, gradients)
    count = len(list(tmp_path.iterdir()))
    assert f"{count} computed" in said[0]
    assert " 0 computed" in said[1]

    monkeypatch.setattr(type(model.encoder), "forward", encode)
    file = next(iter(tmp_path.iterdir()))
    coarse, whole = torch.load(file)[0], file.read_bytes()
    values = whole.index(bytes(coarse.untyped_storage().tolist()))
    changed = whole[:values] + bytes([whole[values] ^ 1]) + whole[values + 1 :]
    for damaged in (whole[: len(whole) // 2], changed):
        file.write_bytes(damaged)
        said.clear()
        with cached_features(model, tmp_path, said.append):
            assert losses(model, data)[0] == expected
        assert f"{file} is damaged" in said[0]
        assert torch.equal(torch.load(file)[0], coarse)


def test_features_are_those_of_one_encoder_and_picture(tmp_path: Path) -> None:
    model, image = miniature("efficienttam"), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = model.encoder(image)[0]

    def encoded(image: torch.Tensor) -> torch.Tensor:
        with cached_features(model, tmp_path, print):
            return model.encoder(image)[0]

    for _ in range(2):
        assert torch.allclose(encoded(image), expected, atol=1e-5)
        assert len(list(tmp_path.iterdir())) == 2
    encoded(image.flip(-1))
    assert len(list(tmp_path.iterdir())) == 4
    with torch.no_grad():
        for value in model.encoder.parameters():
            value.mul_(1.01)
        assert torch.allclose(encoded(image), model.encoder(image)[0], atol=1e-5)
    assert len(list(tmp_path.iterdir())) == 6


def test_the_bundled_model_reads_features_too(data: Path, tmp_path: Path) -> None:
    model = load("nano", input_size=(96, 80))
    clip = ClipSampler(open_dataset("folder", data), NAMES, model).draw(RULE, np.random.default_rng(0))
    torch.manual_seed(0)
    expected = Objective(model).clip(*clip)
    for _ in range(2):
        with cached_features(model, tmp_path, print):
            torch.manual_seed(0)
            found = Objective(model).clip(*clip)
        for name, value in found.items():
            assert value.item() == pytest.approx(expected[name].item(), rel=1e-3, abs=1e-4), name


def test_a_second_run_computes_nothing(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetune, "load", lambda name, weights: miniature("efficienttam"))
    given = ["finetune", "edgetam", "--data", f"folder={data}", "--weights", "random", "--train", "decoder,memory"]
    given += ["--device", "cpu", "--threads", "1", "--steps", "2", "--length", "2"]
    given += ["--cache", str(tmp_path / "cache")]
    outs = [tmp_path / name for name in "ab"]
    done = [CliRunner().invoke(app, [*given, "-o", str(out)]) for out in outs]
    assert [each.exit_code for each in done] == [0, 0], done[1].output
    assert " 0 computed" not in done[0].output
    assert " 0 computed" in done[1].output
    first, second = ((out / "model.safetensors").read_bytes() for out in outs)
    assert first == second
    assert '"gain": 0.0' in (outs[0] / "model.recipe.json").read_text()


def test_what_changes_a_frame_is_refused(data: Path, tmp_path: Path) -> None:
    def prepare(recipe: FinetuneRecipe) -> None:
        chosen = Sequences(lambda: open_dataset("folder", data), NAMES)
        task = Task("edgetam", None, chosen, recipe, Resources(cache=tmp_path))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(finetune, "load", lambda name, weights: miniature("efficienttam"))
            task.prepare(chosen.opened())

    prepare(RECIPE)
    with pytest.raises(ConfigError, match="a gain of 0 expected"):
        prepare(FinetuneRecipe())
    for train in ("all", "encoder", "memory,lora:2"):
        with pytest.raises(ConfigError, match=f"--train {train} changes it"):
            prepare(replace(RECIPE, train=train))
