"""Quantising whole models on pictures and clips: the command, and the table of methods."""

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_sam import TINY_VIT, picture, tiny_model
from typer.testing import CliRunner

from samvideo import checkpoints
from samvideo.calibrate import mean_iou, predict, read_shots, true_masks
from samvideo.cli.main import app
from samvideo.cli.quantize import METHODS as NAMES
from samvideo.compress.quantised import METHODS
from samvideo.encoders.vit import PlainVit
from samvideo.image_model import ImageModel
from samvideo.io.masks import write_index_png
from samvideo.specs import IMAGE_SPECS

sys.path.insert(0, str(Path(__file__).parents[2] / "demos"))
from compress_table import rows, split


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Discs with their masks."""
    (tmp_path / "set" / "images").mkdir(parents=True)
    (tmp_path / "set" / "masks").mkdir()
    for i in range(3):
        rgb = picture(i)
        cv2.imwrite(str(tmp_path / "set" / "images" / f"{i}.png"), rgb[..., ::-1])
        write_index_png(tmp_path / "set" / "masks" / f"{i}.png", (rgb == (230, 40, 90)).all(2).astype(np.uint8))
    return tmp_path / "set"


def tiny_image_model() -> ImageModel:
    torch.manual_seed(0)
    model = ImageModel(replace(IMAGE_SPECS["sam-vit-b"], encoder="vit-ti", input_wh=(64, 64))).eval()
    model.encoder = PlainVit(TINY_VIT).eval()
    return model


def test_clips_without_masks_get_boxes_and_are_tracked(pictures: Path) -> None:
    model = tiny_model()
    (shot,) = read_shots([pictures / "images"], model, pictures=3, frames=2)
    assert len(shot.frames) == 2
    assert shot.boxes
    assert len(predict(model, [shot])) == 2 * len(shot.boxes)
    assert true_masks(model, [shot]) == []


def test_stills_of_video_models_reach_memory(pictures: Path) -> None:
    model = tiny_model()
    shots = read_shots([pictures], model, pictures=1, frames=8)
    masks = predict(model, shots)
    assert len(masks) == len(true_masks(model, shots)) == 3
    assert mean_iou(masks, masks) == 1


def test_table_of_methods(pictures: Path) -> None:
    model = tiny_image_model()
    calibration, held_out = split(read_shots([pictures], model, pictures=3, frames=1), 3)
    assert len(calibration) == 1
    table = dict(rows(model, calibration, held_out, ["minmax", "w8a8"], [8, 3]))
    assert set(table) == {"fp32", "minmax", "w8a8"}
    assert all(len(row) == 2 and 0 <= min(row) <= 1 for row in table.values())


def test_command(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "load_any", lambda *_, **__: tiny_image_model())
    out = tmp_path / "out.safetensors"
    given = ["quantize", "sam-vit-b", "--calibrate", str(pictures), "-o", str(out), "--pictures", "1"]
    done = CliRunner().invoke(app, [*given, "--method", "minmax", "--sensitivity", "2"])
    assert done.exit_code == 0, done.output
    assert out.is_file()
    assert "mask IoU with the annotation" in done.stderr
    assert done.stdout.startswith("loss")
    assert len(done.stdout.splitlines()) == 3
    assert CliRunner().invoke(app, given).exit_code == 2, "the file exists"


def test_methods_of_the_command_are_known() -> None:
    assert set(NAMES) == set(METHODS)
