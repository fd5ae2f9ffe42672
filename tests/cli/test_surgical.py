"""What surgical video asks of the command: its model and policy, instruments that come back, the demos."""

import csv
import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from samvideo.cli.main import app
from samvideo.geometry import mask_box
from samvideo.io.sink import VideoWriter
from samvideo.models import build
from samvideo.state_dict import published_shapes
from tests.scenes import BLUE, SIZE, Shape, scene

DEMOS = Path(__file__).parents[2] / "demos"
SHARED = Path(os.environ.get("SAMVIDEO_SHARED", Path(__file__).parents[3].parent / "shared"))
CHOLEC = SHARED / "data" / "cholecseg8k"


def call(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.output


def comes_back(k: int) -> tuple[float, float] | None:
    """From the left into the middle, out to the left and in again."""
    steps = [*range(-20, 60, 4), *range(60, -24, -6), *[-24] * 6, *range(-20, 60, 4)]
    return float(steps[k]), 60.0


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """`case.mp4` and `case.prompts.json`; returns where the instrument truly is, bool (frames,)."""
    monkeypatch.chdir(tmp_path)
    frames, truth = scene(58, Shape(comes_back, 18, BLUE))
    with VideoWriter("case.mp4", SIZE, Fraction(25)) as writer:
        for frame in frames:
            writer.write(frame.rgb, frame.seconds)
    box = mask_box(truth[12, 0])
    Path("case.prompts.json").write_text(json.dumps([{"object_id": 3, "frame": 12, "box": box}]))
    return truth[:, 0].any((1, 2))


def test_the_surgical_model_and_its_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("demo-clip", "clip.mp4", "--frames", 2, "--width", 160, "--height", 96)[0] == 0
    generator = torch.Generator().manual_seed(0)
    shapes = published_shapes(build("surgical-sam2-s-512"))
    state = {key: 0.02 * torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    torch.save({"model": state}, "surgical.pt")
    model = ("--model", "surgical-sam2-s-512", "--weights", "surgical.pt", "--device", "cpu")
    prompt = ("-p", "box=20,20,70,70", "--save", "rle")
    code, output = call("track", "clip.mp4", *prompt, *model, "--policy", "pruning", "-o", "run", "-q")
    assert code == 0, output
    assert json.loads(Path("run/run.json").read_text())["settings"]["options"]["policy"] == "pruning"
    code, output = call("analyze", "run", "-q")
    assert code == 0, output
    assert len(json.loads(Path("run/analysis/analysis.json").read_text())["objects"]) == 1


def test_an_instrument_that_comes_back_keeps_its_number(clip: np.ndarray) -> None:
    code, output = call("track", "case.mp4", "-p", "case.prompts.json", "--start", 12, "-o", "run", "-q")
    assert code == 0, output
    code, output = call("analyze", "run", "--label", "3=hook", "-q")
    assert code == 0, output
    found = json.loads(Path("run/analysis/analysis.json").read_text())
    (entry,) = found["objects"]
    assert (entry["id"], entry["label"], entry["appearances"]) == (3, "hook", 2)
    gone = np.flatnonzero(~clip[12:]) + 12
    left, back = entry["intervals"][0]["end_frame"] + 1, entry["intervals"][1]["start_frame"]
    assert abs(left - gone[0]) <= 2
    assert abs(back - gone[-1] - 1) <= 4
    assert [event["event"] for event in found["events"]] == ["enter", "leave", "enter"]


def test_demos(clip: np.ndarray) -> None:
    for name in ("surgical_analysis", "surgical_batch"):
        assert len((DEMOS / f"{name}.py").read_text().splitlines()) <= 60
    box = json.loads(Path("case.prompts.json").read_text())[0]["box"]
    prompt = "box=" + ",".join(map(str, box)) + "#1@12"
    one = [sys.executable, str(DEMOS / "surgical_analysis.py"), "case.mp4", "--prompt", prompt, "--label", "1=hook"]
    one += ["--model", "flow"]
    done = subprocess.run(one, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "hook: in view" in done.stdout
    assert Path("case_analysis/report.html").exists()
    all_of_them = [sys.executable, str(DEMOS / "surgical_batch.py"), ".", "-o", "runs", "--model", "flow"]
    done = subprocess.run(all_of_them, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with Path("runs/all.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["video"], row["id"]) for row in rows] == [("case", "3")]


@pytest.mark.skipif(not CHOLEC.is_dir(), reason="the shared surgical data are not here")
def test_the_true_grasper_of_cholecseg8k(tmp_path: Path) -> None:
    """Its masks go through the whole analysis and give what the pixels say."""
    from samvideo.analysis.analyser import Analyser
    from samvideo.evaluation.datasets import open_dataset
    from samvideo.geometry import mask_centroid
    from samvideo.types import FrameResult, VideoInfo

    dataset = open_dataset("cholecseg8k", CHOLEC)
    loaded = dataset.sequence(dataset.sequences()[0])
    masks = [dataset.truth(loaded, index).mask(1) for index in sorted(loaded.masks)]
    assert all(mask is not None for mask in masks)
    height, width = masks[0].shape
    analyser = Analyser(VideoInfo("truth", (width, height), Fraction(25)))
    for index, mask in enumerate(masks):
        present = np.array([mask.any()])
        analyser.add(FrameResult(index, index / 25, (1,), mask[None], np.ones(1, np.float32), present))
    (entry,) = analyser.finish().objects
    places = np.array([mask_centroid(mask) for mask in masks if mask.any()])
    assert entry.time_in_view == pytest.approx(len(places) / 25)
    assert entry.path_length == pytest.approx(np.linalg.norm(np.diff(places, axis=0), axis=1).sum())
    assert entry.mean_area == pytest.approx(np.mean([mask.sum() for mask in masks if mask.any()]))
