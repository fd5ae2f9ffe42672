"""The commands on exported models, and `samvideo export-model`."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from page_helpers import command, request, wait_until
from tiny_sam import EXPORTED, tiny_model
from typer.testing import CliRunner

from samvideo.cli.main import app
from samvideo.deploy.manifest import MANIFEST
from samvideo.resume import weights_digest
from samvideo.segmenters.exported import ExportedSegmenter
from samvideo.segmenters.image_model import ImageModelSegmenter
from samvideo.trackers.factory import create_segmenter
from samvideo.trackers.specs import TrackerOptions
from samvideo.types import Box, Points


def call(*arguments: object, code: int = 0) -> str:
    done: Result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


@pytest.fixture(autouse=True)
def in_a_folder_with_a_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call("demo-clip", "clip.mp4", "--frames", 3, "--width", 96, "--height", 64)


def track(exported: Path, *more: object, code: int = 0) -> str:
    prompt = "box=10,10,40,40" if "-p" not in more else "box=50,20,80,60"
    return call("track", "clip.mp4", "-p", prompt, "--runtime", "onnx", "--weights", exported, *more, code=code)


def test_track(exported: Path) -> None:
    track(exported, "-o", "out", "--first-mask", "grabcut")
    record = json.loads(Path("out/run.json").read_text())
    options = record["settings"]["options"]
    assert (options["runtime"], options["weights"], record["frames"]) == ("onnx", "tiny", 3)


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--dtype", "bf16"], 2, "leave --dtype bf16 out"),
        (["--memory", "perceiver"], 2, "leave --memory perceiver out"),
        (["--device", "mps"], 2, "no device of ONNX Runtime is called 'mps'"),
        (["--policy", "fifo:prompted=30"], 2, "export the model with --policy"),
        (["--first-mask", "nothing"], 2, "there is no segmenter 'nothing'"),
        (["--runtime", "abacus"], 2, "torch, onnx, openvino"),
        (["-p", "everything", "--prompter", "grid"], 2, "give"),
    ],
)
def test_options_that_do_not_fit(more: list[str], code: int, message: str, exported: Path) -> None:
    assert message in track(exported, *more, code=code)
    assert not Path("clip_tracked").exists()


def test_what_a_resumed_run_must_have_in_common(exported: Path) -> None:
    moved = Path(shutil.copytree(exported, "moved"))
    assert weights_digest(str(moved)) == weights_digest(str(exported))
    manifest = json.loads((moved / MANIFEST).read_text())
    manifest["constants"]["sha256"] = "0" * 64
    (moved / MANIFEST).write_text(json.dumps(manifest))
    assert weights_digest(str(moved)) != weights_digest(str(exported))


def test_evaluate(exported: Path) -> None:
    Path("data/videos").mkdir(parents=True)
    Path("data/Annotations").mkdir()
    call("demo-clip", "data/videos/demo.mp4", "--frames", 3, "--width", 96, "--height", 64, "--truth", "truth")
    Path("truth").rename("data/Annotations/demo")
    call("evaluate", "folder", "data", "--runtime", "onnx", "--weights", exported, "--model", "tiny", "-o", "out")
    results = json.loads(Path("out/results.json").read_text())
    assert results["model"]["options"]["runtime"] == "onnx"


def test_the_page(exported: Path) -> None:
    with command(Path(), "ui", "clip.mp4", "--runtime", "onnx", "--weights", exported) as run:
        _, headers, _ = request(run.base, "/?" + run.address.split("?")[1])
        cookie, origin = headers["set-cookie"].split(";")[0], run.base.rstrip("/")

        def post(path: str, **value: object) -> dict[str, object]:
            sent = {"Cookie": cookie, "Origin": origin, "Content_Type": "application/json"}
            status, _, body = request(run.base, path, "POST", json.dumps(value).encode(), **sent)
            assert status == 200, body
            found: dict[str, object] = json.loads(body)
            return found

        added = post("/api/edit", do="add")["object"]
        post("/api/edit", do="box", frame=0, object=added, box=[10, 10, 40, 40])
        status, _, body = request(run.base, "/api/masks/0", Cookie=cookie)
        assert status == 200, body
        assert json.loads(body)["objects"][str(added)]["source"] == "preview"
        post("/api/command", kind="track", direction="forward")
        wait_until(lambda: post("/api/edit", do="undo")["files"])
        post("/api/command", kind="finish")
        assert run.ended() == 0
    assert len(list(Path("clip_tracked/masks").iterdir())) == 3


def test_previews_are_those_of_the_model(exported: Path) -> None:
    theirs = create_segmenter("auto", TrackerOptions(weights=exported, device="cpu"), "onnx")
    assert isinstance(theirs, ExportedSegmenter)
    rgb = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    embedded = [s.embed(rgb) for s in (ImageModelSegmenter(tiny_model(**EXPORTED)), theirs)]
    for prompt in (Box((10, 10, 40, 40), object_id=1), Points([(20.0, 20.0)], object_id=1)):
        one, other = (image.segment([prompt])[0] for image in embedded)
        assert len(one.masks_nhw) == len(other.masks_nhw)
        assert np.mean(one.masks_nhw != other.masks_nhw) <= 1e-3
        assert np.allclose(one.quality_n, other.quality_n, atol=1e-3)
        again = Points([(50.0, 50.0)], [0], object_id=1)
        for previous in (one, one.best):
            pair = [image.segment([again], previous={1: previous})[0].best for image in embedded]
            assert np.mean(pair[0] != pair[1]) <= 1e-3


@pytest.fixture
def quick_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Export the tiny model, whatever is named, without graphs in its files."""
    load: Callable[..., object] = lambda *_, **others: tiny_model(policy=others["policy"] or "fifo", **EXPORTED)  # noqa: E731
    monkeypatch.setattr("samvideo.checkpoints.load_any", load)
    monkeypatch.setattr("samvideo.deploy.bundle.write_onnx", lambda _, path: path.write_bytes(b"graph"))


def test_an_export_without_its_packages_is_refused_at_once(
    quick_export: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    said = call("export-model", "edgetam", "-o", "out", code=2)
    assert said.startswith("error: the packages onnx and onnxscript are needed"), said
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["sam2.1-tini", "-o", "out"], 2, "sam2.1-tiny"),
        (["vit-ti", "-o", "out"], 2, "is an encoder"),
        (["squeezesam", "-o", "out", "--weights", "random", "-q"], 2, "cannot be exported"),
        (["edgetam", "-o", "out", "--weights", "none.pt"], 4, "there is no file none.pt"),
        (["edgetam", "-o", "out", "--to", "tflite"], 2, "no format of graphs is called 'tflite'"),
        (["edgetam", "-o", "out", "--policy", "fiffo"], 2, "fifo"),
        (["-o", "out"], 2, "name a model"),
        (["edgetam", "-o", "clip.mp4"], 5, "is not a folder"),
        (["edgetam", "-o", "."], 2, "not empty"),
    ],
)
def test_exports_that_are_refused(arguments: list[str], code: int, message: str) -> None:
    assert message in call("export-model", *arguments, code=code)
    assert not Path("out").exists()


def test_exports_are_replaced_and_nothing_else(quick_export: None) -> None:
    Path("mine").mkdir()
    Path("mine/notes.txt").touch()
    assert "no earlier export-model wrote" in call("export-model", "edgetam", "-o", "mine", "--overwrite", code=2)
    call("export-model", "edgetam", "-o", "out")
    assert "not empty" in call("export-model", "edgetam", "-o", "out", code=2)
    call("export-model", "edgetam", "-o", "out", "--objects", 2, "--policy", "samurai", "--overwrite", "--quiet")
    manifest = json.loads(Path("out/manifest.json").read_text())
    assert (manifest["objects"], manifest["policy"]) == (2, "samurai")
    assert [path.name for path in Path("mine").iterdir()] == ["notes.txt"]
