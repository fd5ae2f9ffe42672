"""The benchmark of everything mode. Nothing here depends on the machine's speed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from samvideo import interchange
from samvideo.cli.main import app
from samvideo.encoders import sam_vit
from samvideo.encoders.sam_vit import SamVitConfig
from samvideo.errors import ConfigError
from samvideo.evaluation.bench import bench
from samvideo.evaluation.bench_everything import HEADER, config_for_random, matched, row
from samvideo.evaluation.bench_inputs import Case, Plan
from samvideo.prompters.base import Candidate
from samvideo.specs import IMAGE_SPECS


@pytest.fixture
def miniature(monkeypatch: pytest.MonkeyPatch) -> str:
    """A SAM with one narrow block, which transformers builds too."""
    name = "sam-vit-miniature"
    monkeypatch.setitem(sam_vit.VARIANTS, name, SamVitConfig(16, 2, 1, (), 16))
    monkeypatch.setitem(IMAGE_SPECS, name, replace(IMAGE_SPECS["sam-vit-b"], name=name, encoder=name))
    monkeypatch.setattr(interchange, "COUNTERPARTS", (*interchange.COUNTERPARTS, name))
    return name


def test_the_same_masks_as_the_pipeline_of_transformers(miniature: str) -> None:
    plan = Plan(frames=1, warmup=1, peer="transformers", points=2)
    document = bench([Case(miniature, None, "cpu", "fp32")], plan)
    (case,) = json.loads(json.dumps(document))["cases"]
    peer = case["peer"]
    assert case["masks"] == peer["matched"] >= 1
    assert peer["only_ours"] == peer["only_theirs"] == 0
    assert peer["mask_iou"]["min"] > 0.99
    assert case["points_per_side"] == 2
    line, network, thresholds, beside = row(case).splitlines()
    assert len(line) == len(HEADER)
    assert "1 decodings of up to 64 clicks" in network
    assert "predicted IoU above" in thresholds
    assert "0 only the peer's" in beside


def test_masks_are_matched_one_to_one() -> None:
    masks = np.zeros((4, 8, 8), bool)
    masks[0, :4], masks[1, :5], masks[2, :, :3], masks[3, 7, 7] = True, True, True, True
    assert matched(list(masks[:3]), list(masks[[1, 3, 0]])) == pytest.approx([1.0, 1.0])
    assert matched(list(masks[:2]), list(masks[:1])) == [1.0]
    assert matched([], list(masks)) == []


@pytest.mark.parametrize(("shift", "least"), [(0.0, 8.5 / 12), (-2.0, 0.0)])
def test_thresholds_for_random_weights(shift: float, least: float) -> None:
    """They keep a part of the masks, and by predicted IoU all where none of it is above 0."""
    ratings = np.linspace(0, 1, 13)

    class Part:
        def masks(self, xy: object, labels: object, keep: object) -> list[Candidate]:
            nothing = np.zeros(1, np.uint8)
            return [
                Candidate(nothing, (0, 0, 1, 1), (0, 0, 0, 0), shift + rating, rating, ((0.0, 0.0),))
                for rating in ratings
            ]

    config = config_for_random(lambda rgb, part: Part(), np.zeros((4, 4, 3), np.uint8), 32)  # type: ignore[arg-type, return-value]
    assert (config.points, config.box_overlap) == (32, 1.0)
    assert config.keep.quality == pytest.approx(least)
    assert config.keep.stability == pytest.approx(10.5 / 12 if least else 5.5 / 12)


@pytest.mark.parametrize(("model", "peer"), [("edgetam", None), ("sam-vit-b", "timm"), ("squeezesam", None)])
def test_what_is_refused(model: str, peer: str | None) -> None:
    with pytest.raises(ConfigError, match=r"times image models|does not encode"):
        bench([Case(model)], Plan(peer=peer, points=2))


def test_a_plot_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["bench", "--everything", "--plot", str(tmp_path / "speed.svg")])
    assert done.exit_code == 2
    assert "leave it out with --everything" in " ".join(done.output.split())
