"""What users give for a model: names with files, published wrappers, several files, random weights."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner
from weights_server import checkpoint_file, serve

import samvideo
from samvideo.checkpoints import load_any
from samvideo.cli.main import app
from samvideo.errors import ConfigError, SamVideoError, WeightsError
from samvideo.image_model import ImageModel
from samvideo.models import count_parameters
from samvideo.segmenters.image_model import ImageModelSegmenter
from samvideo.specs import IMAGE_SPECS, SPECS
from samvideo.state_dict import build_spec, recognise, spec_shapes
from samvideo.weights.catalog import CATALOG, PARAMETERS, Checkpoint, checkpoint
from samvideo.weights.fetch import fetch
from samvideo.weights.naming import split_name, weight_files
from samvideo.weights.read import read_state

STATE = {"a.weight": torch.ones(2, 3)}
SHARED = {"mobilesam": ["mobilesam", "tinysam", "mobilesamv2"], "edgesam": ["edgesam", "edgesam-3x"]}
"""Models whose checkpoints have the same keys and shapes, the plainest first."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAMVIDEO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def zeros(name: str, prefix: str = "") -> dict[str, torch.Tensor]:
    """The entries of a checkpoint below a prefix, without it; of half the size of the published ones."""
    shapes = {k: v for k, v in spec_shapes(IMAGE_SPECS[name]).items() if k.startswith(prefix)}
    return {key.removeprefix(prefix): torch.zeros(shape, dtype=torch.float16) for key, shape in shapes.items()}


@pytest.mark.parametrize("name", IMAGE_SPECS)
def test_every_image_model_is_recognised_and_counted(name: str) -> None:
    spec = IMAGE_SPECS[name]
    state = {key: torch.empty(shape, device="meta") for key, shape in spec_shapes(spec).items()}
    expected = next((names for names in SHARED.values() if name in names), [name])
    assert recognise(state) == expected
    assert recognise({**state, "head.weight": torch.empty(1)}) == []
    with torch.device("meta"):
        assert round(count_parameters(build_spec(spec)) / 1e6, 1) == PARAMETERS[name]


def test_the_catalogue_has_a_row_for_every_model() -> None:
    assert set(CATALOG) == set(PARAMETERS) == {*SPECS, *IMAGE_SPECS}
    assert len({row.file_name for row in CATALOG.values()}) == len(CATALOG)
    for row in CATALOG.values():
        assert (row.url is None) == bool(row.note), row.name
        if row.name in IMAGE_SPECS:
            names = list(spec_shapes(IMAGE_SPECS[row.name]))
            assert all(any(name.startswith(part) for name in names) for part in row.parts), row.name
    restricted = {row.name for row in CATALOG.values() if row.restriction}
    assert restricted == {"edgesam", "edgesam-3x", "rwkv-sam-small"}


@pytest.mark.parametrize("name", [row.name for row in CATALOG.values() if row.url is None])
def test_what_cannot_be_downloaded_is_said_with_the_remedy(name: str) -> None:
    with pytest.raises(WeightsError, match=rf"{name} cannot be downloaded: .*--weights"):
        fetch(checkpoint(name))


def test_a_licence_is_said_before_the_download(caplog: pytest.LogCaptureFixture) -> None:
    row = checkpoint("edgesam")
    with serve() as server:
        server.content = checkpoint_file(row.parts)
        fetch(Checkpoint(row.name, server.address, 1, row.licence, row.origin, parts=row.parts))
    assert "edgesam must not be used commercially (licence S-Lab 1.0, non-commercial)" in caplog.text
    listed = CliRunner().invoke(app, ["weights", "list"]).stdout
    assert all("non-commercial" in line for line in listed.splitlines() if line.startswith(("edgesam", "rwkv")))


def test_every_wrapper_is_taken_off(tmp_path: Path) -> None:
    wrapped = {
        "training.pth": {"model_state_dict": STATE, "optimizer": {"lr": 0.1}, "epoch": 3},
        "mm.pth": {"meta": {"epoch": 1}, "state_dict": STATE},
        "parallel.pt": {"model": {f"module.{key}": value for key, value in STATE.items()}},
    }
    for file, content in wrapped.items():
        torch.save(content, tmp_path / file)
        assert list(read_state(tmp_path / file)) == ["a.weight"]
    torch.save({"PromtEncoder": STATE, "MaskDecoder": {"module.b": torch.ones(1)}}, tmp_path / "heads.pt")
    assert list(read_state(tmp_path / "heads.pt")) == ["prompt_encoder.a.weight", "mask_decoder.b"]


def test_a_zipped_checkpoint_is_read(tmp_path: Path) -> None:
    torch.save({"model": STATE}, tmp_path / "model.pt")
    whole = tmp_path / "model.pt.zip"
    for path, names in ((whole, ["x/model.pt", "__MACOSX/x/._model.pt"]), (tmp_path / "two.zip", ["a.pt", "b.pt"])):
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.write(tmp_path / "model.pt", name)
    assert list(read_state(whole)) == ["a.weight"]
    whole.write_bytes(whole.read_bytes()[:-30])
    with pytest.raises(WeightsError, match="damaged or cut off"):
        read_state(whole)
    with pytest.raises(WeightsError, match="2 checkpoints: unpack it"):
        read_state(tmp_path / "two.zip")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.pt", bytes(1 << 24))
    with pytest.raises(WeightsError, match="unpacks into 16,777,216 bytes"):
        read_state(tmp_path / "bomb.zip")


def test_networks_that_are_no_checkpoints_are_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "pickled.pt")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("script/data.pkl", b"x")
        archive.writestr("script/constants.pkl", b"x")
    Path("network.onnx").write_bytes(b"x")
    for name, message in (
        ("pickled.pt", r"whole pickled network.*Nothing in it was run.*state_dict\(\)"),
        ("script.pt", "TorchScript program"),
        ("network.onnx", "exported network.*the checkpoint it was made from"),
    ):
        with pytest.raises(WeightsError, match=message):
            read_state(tmp_path / name)


@pytest.mark.parametrize(
    ("model", "weights", "expected"),
    [
        ("mobilesam", None, ("mobilesam", None)),
        ("mobilesam", "a.pt", ("mobilesam", Path("a.pt"))),
        ("mobilesam=a=b.pt", None, ("mobilesam", Path("a=b.pt"))),
        ("mobilesam=a.pt", "b.pt", "given twice, 'a.pt' and 'b.pt'"),
        ("mobilesam=", None, "lacks its file"),
        ("=a.pt", None, "lacks its name"),
    ],
)
def test_a_name_with_a_file(model: str, weights: str | None, expected: object) -> None:
    if isinstance(expected, str):
        with pytest.raises(ConfigError, match=expected):
            split_name(model, weights)
    else:
        assert split_name(model, weights) == expected


def test_files_and_folders(tmp_path: Path) -> None:
    for name in ("b.pt", "a.pth", "notes.txt", "c,d.pt"):
        (tmp_path / name).touch()
    assert [file.name for file in weight_files(tmp_path)] == ["a.pth", "b.pt", "c,d.pt"]
    assert weight_files("a.pth, b.pt") == [Path("a.pth"), Path("b.pt")]
    assert weight_files("c,d.pt") == [Path("c,d.pt")]
    (tmp_path / "empty").mkdir()
    for weights, message in (
        ("a.pth,none.pt", "no file none.pt"),
        (",", "no file ,"),
        ("empty", "folder empty has no checkpoint"),
    ):
        with pytest.raises(WeightsError, match=message):
            weight_files(weights)


def test_a_folder_of_hugging_face_has_its_weights_twice(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").touch()
    assert [file.name for file in weight_files(tmp_path)] == ["pytorch_model.bin"]
    (tmp_path / "model.safetensors").touch()
    assert [file.name for file in weight_files(tmp_path)] == ["model.safetensors"]


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("a.pt", "b.pt"):
        (tmp_path / name).touch()
    assert split_name("sam-vit-b=~/a.pt") == ("sam-vit-b", tmp_path / "a.pt")
    assert split_name("sam-vit-b", "~/a.pt") == ("sam-vit-b", tmp_path / "a.pt")
    assert weight_files("~/a.pt,~/b.pt") == [tmp_path / "a.pt", tmp_path / "b.pt"]


def test_counters_of_batch_norms_may_be_missing() -> None:
    """Weights are often stored without them, and inference does not read them."""
    state = {key: value for key, value in zeros("nanosam").items() if not key.endswith("num_batches_tracked")}
    assert recognise(state) == ["nanosam"]
    torch.save(state, "nanosam.pt")
    model = load_any(weights="nanosam.pt")
    assert isinstance(model, ImageModel)
    assert not any(parameter.any() for parameter in model.parameters())
    del state["backbone.bn1.running_mean"]
    with pytest.raises(WeightsError, match=r"1 missing \(backbone.bn1.running_mean\)"):
        torch.save(state, "nanosam.pt")
        load_any("nanosam=nanosam.pt")


def test_image_models_take_no_options_of_video_models() -> None:
    for options in ({"memory": "plain"}, {"policy": "fifo"}, {"input_size": 512}):
        with pytest.raises(ConfigError, match=f"has no {next(iter(options))}"):
            load_any("nanosam", weights="random", **options)  # type: ignore[arg-type]


def test_models_in_several_files(tmp_path: Path) -> None:
    heads = {
        "PromtEncoder": zeros("mobilesamv2", "prompt_encoder."),
        "MaskDecoder": zeros("mobilesamv2", "mask_decoder."),
    }
    torch.save({"model": zeros("mobilesamv2", "image_encoder.")}, "encoder.pt")
    torch.save(heads, "heads.pt")
    for weights in ("heads.pt,encoder.pt", str(tmp_path)):
        assert isinstance(load_any("mobilesamv2", weights=weights), ImageModel)
    with pytest.raises(WeightsError, match=r"lacks prompt_encoder\.\* .*encoder, decoder.*separated by commas"):
        load_any("mobilesamv2=encoder.pt")
    with pytest.raises(WeightsError, match=r"heads.pt has nothing that mobilesamv2 lacks"):
        load_any("mobilesamv2=encoder.pt,heads.pt,heads.pt")
    with pytest.raises(ConfigError, match="name it to join them"):
        load_any(weights="encoder.pt,heads.pt")
    trained = {k: v for k, v in zeros("nanosam").items() if not k.startswith(("prompt_", "mask_"))}
    torch.save({"model": trained, "optimizer": {}, "epoch": 1}, "nano.pth")
    torch.save(zeros("mobilesam"), "mobile_sam.pt")
    assert isinstance(load_any("nanosam=mobile_sam.pt,nano.pth"), ImageModel)


def test_random_weights_are_the_same_each_time(caplog: pytest.LogCaptureFixture) -> None:
    before = torch.random.get_rng_state()
    one, two, other = (load_any(f"{name}=random") for name in ("nanosam", "nanosam", "mobilesam"))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    for model in (one, other):
        assert all(value.isfinite().all() for value in model.state_dict().values())
    key = "decoder.iou_token.weight"
    assert not torch.equal(one.state_dict()[key], other.state_dict()[key])
    assert "nanosam has random weights: its masks mean nothing" in caplog.text
    with pytest.raises(ConfigError, match="name one"):
        load_any(weights="random")


def test_load_segmenter_by_name_and_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    click = samvideo.Points([(30, 20)])
    for name in ("auto", "nano", "grabcut"):
        (found,) = samvideo.load_segmenter(name).embed(rgb).segment([click])
        assert found.best.shape == (40, 60)
    assert type(samvideo.load_segmenter("squeezesam=random")).__name__ == "SqueezeSamSegmenter"
    model = load_any("nanosam", weights="random")
    torch.save({model.published(key): value for key, value in model.state_dict().items()}, "nanosam.pt")
    for name, file in (("nanosam=nanosam.pt", None), ("auto", "nanosam.pt"), ("nanosam", "random")):
        segmenter = samvideo.load_segmenter(name, weights=file, dtype="fp32")
        assert isinstance(segmenter, ImageModelSegmenter)
        assert segmenter.model.spec.name == "nanosam"
        key = "decoder.iou_token.weight"
        assert torch.equal(segmenter.model.state_dict()[key], model.state_dict()[key])


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("mobilesma", None, "did you mean 'mobilesam'"),
        ("grabcut", "a.pt", "grabcut has no weights"),
        ("mobilesam", "none.pt", "no file none.pt"),
        ("fastsam3d", "random", "segments volumes, not images"),
        ("rwkv-sam-small", None, "never published"),
    ],
)
def test_segmenters_that_cannot_be_had(name: str, weights: str | None, message: str) -> None:
    with pytest.raises(SamVideoError, match=message):
        samvideo.load_segmenter(name, weights=weights)


def test_an_image_model_does_not_track(caplog: pytest.LogCaptureFixture) -> None:
    for name, message in (
        ("mobilesam", "image model.*use load_segmenter"),
        ("tinyvit-5m", r"no video model with it is published: samvideo\.build\('tinyvit-5m', memory"),
    ):
        with pytest.raises(ConfigError, match=message):
            samvideo.load(name)
    for name, message in (
        ("mobilesam", "take its encoder 'tinyvit-5m'"),
        ("efficientvit-sam-l0", "take its encoder 'efficientvit-l0' with"),
        ("squeezesam", "track with; use it as"),
    ):
        with pytest.raises(ConfigError, match=message):
            samvideo.build(name)
    done = CliRunner().invoke(app, ["track", "x.mp4", "-p", "box=1,1,9,9", "--model", "mobilesam=random"])
    assert done.exit_code == 2
    assert "--first-mask mobilesam" in done.stderr


def test_track_with_random_weights_and_name_with_file(caplog: pytest.LogCaptureFixture) -> None:
    def call(*arguments: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, arguments)
        return done.exit_code, done.stdout, done.stderr

    call("demo-clip", "clip.mp4", "--frames", "2", "--width", "96", "--height", "64")
    track = ("track", "clip.mp4", "-p", "box=10,10,40,40", "--overwrite", "--json")
    for options in (("--model", "efficienttam-ti-512=random"), ("--model", "nano", "--weights", "random")):
        code, out, err = call(*track, *options)
        assert code == 0, err
        assert json.loads(out)["frames"] == 2
    assert "efficienttam-ti-512 has random weights" in caplog.text
    assert "nano has random weights" in caplog.text
    assert call(*track, "--model", "edgetam=a.pt", "--weights", "b.pt")[0] == 2
    assert call(*track, "--model", "edgetam=a.pt")[0] == 4
    assert call(*track, "--weights", "random")[0] == 2
