"""The benchmark of image models. Nothing here depends on the machine's speed."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from samvideo.cli.bench import _names_and_weights
from samvideo.errors import ConfigError
from samvideo.evaluation import bench_images
from samvideo.evaluation.bench import HEADER, bench, row
from samvideo.evaluation.bench_inputs import Case, Plan, ready_image_model
from samvideo.image_model import ImageModel
from samvideo.specs import IMAGE_SPECS
from samvideo.state_dict import spec_shapes
from samvideo.tensors import Features, PromptTensors

CASE = Case("slimsam-77", 64, "cpu", "fp32", objects=2)


@dataclass
class Same:
    """A peer with our own outputs, made larger."""

    model: ImageModel
    parameters: int = 1

    def encode(self, image_bchw: Tensor) -> Features:
        return self.model.encode(image_bchw)

    def masks(self, encoded: Features, points: PromptTensors) -> Tensor:
        embedding = encoded.coarse.expand(len(points.xy), -1, -1, -1)
        return 1.25 * self.model.decode(encoded, embedding, points).logits_bnhw[:, 1:]


@pytest.fixture(autouse=True)
def _peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_images.meter, "matmul_peak", lambda device, dtype: 1e11)


def test_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_images, "image_peer", lambda name, ours, device, dtype: Same(ours))
    document = bench([CASE], Plan(frames=3, warmup=1, peer="transformers"))
    (case,) = json.loads(json.dumps(document))["cases"]
    assert list(case["stages"]) == ["preprocess", "encode", "decode"]
    assert case["stages"]["encode"] == case["seconds"]["p50"] == case["network_seconds"]
    assert case["peer"]["logit_error"]["max"] == pytest.approx(0.2, rel=1e-3)
    assert case["peer"].get("mask_iou", {"min": 1.0})["min"] == 1.0
    line, _, peer = row(case).splitlines()
    assert len(line) == len(HEADER)
    assert "relative error of logits 2.0e-01" in peer


@pytest.mark.parametrize(
    ("case", "plan", "message"),
    [
        (CASE, Plan(peer="timm"), "timm has no trunk like that of 'slimsam-77'"),
        (CASE, Plan(peer="transformers"), "transformers computes at 1024x1024 only"),
        (Case("slimsam-77", 64, prompted=2), Plan(), "'slimsam-77' is an image model"),
        (Case("squeezesam"), Plan(), "'squeezesam' does not encode pictures apart from prompts"),
        (Case("edgetam"), Plan(peer="timm"), "timm has trunks only"),
    ],
)
def test_what_is_refused(case: Case, plan: Plan, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bench([case], plan)


def test_cases_are_checked_before_the_first_is_timed() -> None:
    with pytest.raises(ConfigError, match="'squeezesam' does not encode"):
        bench([CASE, Case("squeezesam")], Plan(), progress=lambda text: pytest.fail("timed"))


def test_weights_of_image_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, files separated by commas, and "random", as for every command."""
    monkeypatch.chdir(tmp_path)
    state = {key: torch.full(shape, 0.5) for key, shape in spec_shapes(IMAGE_SPECS["nanosam"]).items()}
    torch.save({key: value for key, value in state.items() if "decoder" in key}, "decoder.pt")
    torch.save({key: value for key, value in state.items() if "decoder" not in key}, "rest.pt")
    model = ready_image_model(Case("nanosam"), Plan(weights=Path("rest.pt,decoder.pt")))
    assert all((parameter == 0.5).all() for parameter in model.parameters())
    assert _names_and_weights(["nanosam=random"], None) == (["nanosam"], None)
