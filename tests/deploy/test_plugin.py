"""A model around an encoder of another distribution is exported as ours are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

ENCODER = """
from dataclasses import dataclass

from torch import nn

from samvideo.encoders.base import WIDTH, ImageEncoder

KIND = "encoder"

@dataclass(frozen=True)
class Config:
    width: int = 24

class Patches(ImageEncoder):
    step, fine = 16, False

    def __init__(self, config):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, config.width, 8, 8), nn.BatchNorm2d(config.width), nn.GELU())
        self.neck = nn.Conv2d(config.width, WIDTH, 2, 2)

    def forward(self, image_bchw):
        return self.neck(self.stem(image_bchw)), ()

VARIANTS = {"patches-a": Config()}
build = Patches
"""
SCRIPT = """
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
from tiny_sam import clip, randomise

from samvideo.deploy.bundle import export_model
from samvideo.models import build
from samvideo.specs import ModelSpec
from samvideo.torch_runtime import TorchRuntime
from samvideo.trackers.factory import create_tracker
from samvideo.trackers.sam import SamTracker
from samvideo.types import Box

model = randomise(build(ModelSpec("patches-a", "patches-a", layers=1), input_size=64))
folder = export_model(deepcopy(model), Path("exported"))
trackers = SamTracker(TorchRuntime(model)), create_tracker("patches-a", weights=folder, runtime="onnx")
for frame in clip(6):
    ours, theirs = (t.step(frame, [Box((10, 10, 40, 40))] * (frame.index == 0)).masks for t in trackers)
    assert ours.any() and np.mean(ours != theirs) <= 1e-3, frame.index
"""


def test_an_encoder_of_a_plugin(tmp_path: Path) -> None:
    (tmp_path / "patches.py").write_text(ENCODER)
    info = tmp_path / "patches-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: patches\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[samvideo.encoders]\npatches = patches\n")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1] / "helpers")])
    line = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(line, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
