"""A miniature of EdgeTAM learns from random weights what objects in clips are that it has not seen."""

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

SIDE, FRAMES = 96, 6
HELD_OUT = ("36", "37", "38", "39")
COLOURS = np.array([(230, 40, 40), (40, 210, 60), (50, 70, 230), (230, 210, 40), (210, 50, 210), (40, 210, 210)])


def write_frames(root: Path, name: str, rng: np.random.Generator) -> None:
    """A disc and a square, each of another colour, that move over noise and turn back at the sides."""
    colours, ground = rng.permutation(COLOURS)[:2], rng.integers(40, 110)
    places, speeds, radii = (
        rng.uniform(24, 72, (2, 2)),
        rng.uniform(-4, 4, (2, 2)),
        rng.uniform(12, 20, 2).astype(int),
    )
    for part in ("JPEGImages", "Annotations"):
        (root / part / name).mkdir(parents=True)
    for t in range(FRAMES):
        ids = np.zeros((SIDE, SIDE), np.uint8)
        cv2.circle(ids, places[0].astype(int).tolist(), int(radii[0]), 1, -1)
        corner = (places[1] - radii[1]).astype(int).tolist()
        cv2.rectangle(ids, (*corner, 2 * int(radii[1]), 2 * int(radii[1])), 2, -1)
        picture = np.repeat(ground + rng.integers(0, 20, (SIDE, SIDE, 1)), 3, 2).astype(np.uint8)
        picture[ids == 1], picture[ids == 2] = colours
        cv2.imwrite(str(root / "JPEGImages" / name / f"{t:05}.png"), picture)
        write_index_png(root / "Annotations" / name / f"{t:05}.png", ids)
        speeds[(places + speeds < 18) | (places + speeds > SIDE - 18)] *= -1
        places += speeds


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    for number in range(40):
        write_frames(root, f"{number:02}", rng)
    return root


def test_a_miniature_learns_from_random_weights(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = miniature("edgetam")
    monkeypatch.setattr(finetune, "load", lambda name, weights: model)
    unseen = Footage(open_dataset("folder", clips), HELD_OUT, model)
    before = validate(unseen, FRAMES)["J"]
    given = ["--data", f"folder={clips}", "--validate", ",".join(HELD_OUT), "-o", str(tmp_path / "run")]
    given += ["--weights", "random", "--length", "3", "--every", "1000", "--steps", "60", "--device", "cpu"]
    done = CliRunner().invoke(app, ["finetune", "edgetam", *given])
    assert done.exit_code == 0, done.output
    assert before < 0.2
    assert validate(unseen, FRAMES)["J"] > 0.3
