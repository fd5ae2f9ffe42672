"""NIfTI volumes on the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from samvideo.cli.main import app

nib = pytest.importorskip("nibabel")

SHAPE, CENTRE = (72, 60, 24), (34, 30, 12)
BOX = "box=19,15,50,46@12"


@pytest.fixture
def truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The ball in scan.nii.gz in the current folder, with axes that are neither straight nor equally spaced."""
    monkeypatch.chdir(tmp_path)
    at = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    inside: np.ndarray = (((at - CENTRE) * [1, 1, 2]) ** 2).sum(-1) < 15**2
    noise = np.random.default_rng(0).normal(200, 15, SHAPE)
    affine = np.array([[0, 0.3, -2, 9], [-1, 0, 0, 8], [0, 0.95, 0.6, 7], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image((noise + 500 * inside).astype(np.int16), affine), "scan.nii.gz")
    return inside


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def labels(folder: str) -> np.ndarray:
    image = nib.load(Path(folder) / "labels.nii.gz")
    assert np.array_equal(image.affine, nib.load("scan.nii.gz").affine)
    return np.asarray(image.dataobj)


def test_an_object_is_tracked_through_slices(truth: np.ndarray) -> None:
    done = call("track", "scan.nii.gz", "--model", "flow", "-p", f"{BOX}#3", "--direction", "both", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["files"]["labels"] == "scan_tracked/labels.nii.gz"
    found = labels("scan_tracked")
    assert set(np.unique(found)) == {0, 3}
    assert 2 * ((found == 3) & truth).sum() / ((found == 3).sum() + truth.sum()) > 0.9
    assert json.loads(Path("scan_tracked/run.json").read_text())["files"]["labels"] == ["labels.nii.gz"]
    again = call("track", "scan.nii.gz", "--model", "flow", "-p", BOX, "--overwrite", "--start", 12, "--stride", 3)
    assert again.exit_code == 0, again.output
    slices = np.flatnonzero(labels("scan_tracked").any((0, 1)))
    assert slices[0] == 12
    assert (slices % 3 == 0).all(), "other slices are not tracked"


def test_a_window_chooses_the_intensities(truth: np.ndarray) -> None:
    arguments = (
        "track",
        "scan.nii.gz",
        "--model",
        "flow",
        "-p",
        BOX,
        "--start",
        12,
        "--end",
        14,
        "--save",
        "overlay",
    )
    done = call(*arguments, "--window", "600,900")
    assert done.exit_code == 0, done.output
    assert not Path("scan_tracked/labels.nii.gz").exists()
    for wrong in ("600", "a,b", "9,8"):
        refused = call(*arguments, "--window", wrong, "--overwrite")
        assert refused.exit_code == 2
        assert "intensity" in refused.output


def test_labels_are_for_volumes_whose_slices_keep_their_numbers(truth: np.ndarray) -> None:
    assert call("demo-clip", "clip.mp4", "--frames", 2, "--width", 96, "--height", 64).exit_code == 0
    refused = call("track", "clip.mp4", "--model", "flow", "-p", "box=9,9,40,40", "--save", "labels")
    assert (refused.exit_code, "NIfTI" in refused.output) == (2, True)
    refused = call("track", "scan.nii.gz", "--model", "flow", "-p", BOX, "--strip-source", "--start", 12)
    assert (refused.exit_code, "labels" in refused.output) == (2, True)


def test_a_cut_volume_has_the_exit_code_of_sources(truth: np.ndarray) -> None:
    path = Path("scan.nii.gz")
    path.write_bytes(path.read_bytes()[:30_000])
    refused = call("track", "scan.nii.gz", "-p", BOX, "--model", "flow")
    assert (refused.exit_code, "damaged or cut short" in refused.output) == (3, True)
    assert not Path("scan_tracked").exists()
