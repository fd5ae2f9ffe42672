"""Miniatures of EdgeTAM and EfficientTAM learn from nothing to follow objects in clips that they have not seen."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from miniature import miniature
from typer.testing import CliRunner

from samvideo.cli.main import app
from samvideo.evaluation.datasets import open_dataset
from samvideo.io.masks import write_index_png
from samvideo.training import finetune
from samvideo.training.finetune import validate
from samvideo.training.footage import Footage

SIDE, FRAMES = 128, 6
HELD_OUT = ("76", "77", "78", "79")
COLOURS = np.array([(230, 40, 40), (40, 210, 60), (50, 70, 230), (230, 210, 40), (210, 50, 210), (40, 210, 210)])


def write_frames(root: Path, name: str, rng: np.random.Generator) -> None:
    """A disc and a square of different colours, apart at first, that move over noise and turn back at the sides."""
    colours, ground = rng.permutation(COLOURS)[:2], rng.integers(40, 110)
    places, speeds, radii = (
        rng.uniform(28, 100, (2, 2)),
        rng.uniform(-4, 4, (2, 2)),
        rng.integers(18, 28, 2).tolist(),
    )
    while np.abs(places[0] - places[1]).max() < 56:
        places = rng.uniform(28, 100, (2, 2))
    for part in ("JPEGImages", "Annotations"):
        (root / part / name).mkdir(parents=True)
    for t in range(FRAMES):
        ids = np.zeros((SIDE, SIDE), np.uint8)
        cv2.circle(ids, places[0].astype(int).tolist(), radii[0], 1, -1)
        corners = [(places[1] + side * radii[1]).astype(int).tolist() for side in (-1, 1)]
        cv2.rectangle(ids, *corners, 2, -1)
        picture = np.repeat(ground + rng.integers(0, 20, (SIDE, SIDE, 1)), 3, 2).astype(np.uint8)
        picture[ids == 1], picture[ids == 2] = colours
        cv2.imwrite(str(root / "JPEGImages" / name / f"{t:05}.png"), picture)
        write_index_png(root / "Annotations" / name / f"{t:05}.png", ids)
        speeds[(places + speeds < 18) | (places + speeds > SIDE - 18)] *= -1
        places += speeds


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    for number in range(80):
        write_frames(root, f"{number:02}", rng)
    return root


@pytest.mark.parametrize(
    ("name", "steps"), [("edgetam", 250), pytest.param("efficienttam-ti", 700, marks=pytest.mark.long)]
)
def test_a_miniature_learns_to_follow_from_random_weights(
    name: str, steps: int, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = miniature(name)
    monkeypatch.setattr(finetune, "load", lambda name, weights: model)
    unseen = Footage(open_dataset("folder", clips), HELD_OUT, model)
    before = validate(unseen, FRAMES)["J"]
    given = ["--data", f"folder={clips}", "--validate", ",".join(HELD_OUT), "-o", str(tmp_path / "run")]
    given += ["--weights", "random", "--length", "3", "--every", "100", "--steps", str(steps), "--device", "cpu"]
    done = CliRunner().invoke(app, ["finetune", name, *given])
    assert done.exit_code == 0, done.output
    assert before < 0.3
    assert validate(unseen, FRAMES)["J"] > 0.8, done.output
