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
from samvideo.training.clip_sampler import ClipSampler
from samvideo.training.finetune import validate

SIDE, FRAMES = 128, 6
HELD_OUT = ("76", "77", "78", "79")
COLOURS = np.array([(230, 40, 40), (40, 210, 60), (50, 70, 230), (230, 210, 40), (210, 50, 210), (40, 210, 210)])


def path(rng: np.random.Generator) -> np.ndarray:
    """Centres (T, 2) of an object that turns back at the sides."""
    place, speed, found = rng.uniform(28, 100, 2), rng.uniform(-4, 4, 2), []
    for _ in range(FRAMES):
        found.append(place)
        speed = np.where((place + speed < 18) | (place + speed > SIDE - 18), -speed, speed)
        place = place + speed
    return np.array(found)


def write_frames(root: Path, name: str, rng: np.random.Generator) -> None:
    """A disc and a square of different colours that move over noise, apart from each other."""
    colours, ground = rng.permutation(COLOURS)[:2], rng.integers(40, 110)
    disc, square = path(rng), path(rng)
    while np.abs(disc - square).max(1).min() < 48:
        disc, square = path(rng), path(rng)
    radius, half = rng.integers(18, 28, 2).tolist()
    for part in ("JPEGImages", "Annotations"):
        (root / part / name).mkdir(parents=True)
    for t in range(FRAMES):
        ids = np.zeros((SIDE, SIDE), np.uint8)
        cv2.circle(ids, disc[t].astype(int).tolist(), radius, 1, -1)
        corners = [(square[t] + side * half).astype(int).tolist() for side in (-1, 1)]
        cv2.rectangle(ids, *corners, 2, -1)
        picture = np.repeat(ground + rng.integers(0, 20, (SIDE, SIDE, 1)), 3, 2).astype(np.uint8)
        picture[ids == 1], picture[ids == 2] = colours
        cv2.imwrite(str(root / "JPEGImages" / name / f"{t:05}.png"), picture)
        write_index_png(root / "Annotations" / name / f"{t:05}.png", ids)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    for number in range(80):
        write_frames(root, f"{number:02}", rng)
    return root


@pytest.mark.parametrize(
    ("name", "steps"), [("edgetam", 160), pytest.param("efficienttam-ti", 700, marks=pytest.mark.long)]
)
def test_a_miniature_learns_to_follow_from_random_weights(
    name: str, steps: int, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = miniature(name)
    monkeypatch.setattr(finetune, "load", lambda name, weights: model)
    unseen = ClipSampler(open_dataset("folder", clips), HELD_OUT, model)
    before = validate(unseen, FRAMES)["J"]
    given = ["--data", f"folder={clips}", "--validate", ",".join(HELD_OUT), "-o", str(tmp_path / "run")]
    given += ["--weights", "random", "--length", "3", "--every", "100", "--steps", str(steps), "--device", "cpu"]
    done = CliRunner().invoke(app, ["finetune", name, *given])
    assert done.exit_code == 0, done.output
    assert before < 0.3
    assert validate(unseen, FRAMES)["J"] > 0.8, done.output
