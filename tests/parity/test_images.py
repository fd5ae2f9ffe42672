"""The published image models' own outputs, reproduced; see README.md here for what the fixtures are."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from check_images import OWN, main, run, seeded_weights
from images import sampled

from samvideo.specs import IMAGE_SPECS
from samvideo.state_dict import spec_shapes

# Minutes on one core, and gigabytes of weights.
LARGE = ("sam-vit-", "efficientsam-s", "efficientvit-sam-xl0", "slimsam-50", "repvit-sam")
# What takes longest of the others, and whose parts others cover as well.
LARGE += ("rwkv-sam-small", "rap-sam-r50", "efficientvit-sam-l1", "edgesam--pictures", "tinysam--pictures")
LARGE += ("edgesam--everything", "mobilesam--everything-crops")
MANIFESTS = sorted(path.name.removesuffix(".manifest.json") for path in OWN.glob("*.manifest.json"))
# Without a manifest: numbers of a method, see tests/compress.
FIXTURES = sorted(p for p in OWN.glob("*--*") if p.name.split("--")[0] in MANIFESTS)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Two threads, or one where other tests run beside."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", MANIFESTS)
def test_keys_and_shapes_are_the_published_ones(name: str) -> None:
    entries = json.loads((OWN / f"{name}.manifest.json").read_text())
    if name == "mobilesamv2":
        parts = zip(("image_encoder.", "prompt_encoder.", "mask_decoder."), entries.values(), strict=True)
        entries = {prefix + key: value for prefix, part in parts for key, value in part.items()}
    assert spec_shapes(IMAGE_SPECS[name]) == {key: tuple(shape) for key, (shape, _) in entries.items()}


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, id=p.stem, marks=[pytest.mark.long] if p.stem.startswith(LARGE) else []) for p in FIXTURES],
)
def test_outputs_are_the_published_ones(path: Path) -> None:
    report = run(path)
    assert not report.faults, "\n".join(report.faults[:10])


def test_another_weight_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison can fail: one layer's weights are scaled by a hundredth of a percent."""
    import check_images

    def changed(model: str, folder: Path) -> dict[str, torch.Tensor]:
        state = seeded_weights(model, folder)
        state["image_encoder.neck.0.weight"] = state["image_encoder.neck.0.weight"].clone()
        state["image_encoder.neck.0.weight"][0] *= 1.01
        return state

    monkeypatch.setattr(check_images, "seeded_weights", changed)
    check_images.seeded_model.cache_clear()
    report = run(OWN / "mobilesam--prompts.npz")
    check_images.seeded_model.cache_clear()
    assert any("encoder" in fault for fault in report.faults)


def check(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["check_images.py", str(folder)])
    return main()


def test_a_folder_without_manifests_is_checked_and_kinds_not_built_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nanosam--prompts.npz").symlink_to(OWN / "nanosam--prompts.npz")
    (tmp_path / "mobilesam--quantisers.json").write_text("{}")
    assert check(tmp_path, monkeypatch) == 0
    printed = capsys.readouterr().out
    assert "ok   nanosam--prompts" in printed
    assert "not supported mobilesam--quantisers" in printed


def test_what_cannot_be_computed_fails_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(OWN / "fastsam3d--clicks.npz") as file:
        np.savez(tmp_path / "fastsam3d--clicks.npz", **{"click9/iou": np.zeros(1), "input": file["input"][1:]})
    (tmp_path / "nanosam--prompts.npz").write_bytes(b"no archive")
    assert check(tmp_path, monkeypatch) == 1
    printed = capsys.readouterr().out
    assert "click9/iou was not computed" in printed
    assert "input: (13, 14, 14) expected, not (14, 14, 14)" in printed
    assert "FAIL nanosam--prompts: cannot be computed" in printed


@pytest.mark.parametrize("stride", [4, 5, 7, 9, 17, 23, 32])
def test_strides_are_those_of_the_shapes(stride: int) -> None:
    whole = np.arange(3 * 640 * 427).reshape(3, 640, 427)
    part = whole[:, ::stride, ::stride]
    assert np.array_equal(sampled(whole, part.shape), part)
    assert sampled(whole, (4, 2, 2)) is whole
