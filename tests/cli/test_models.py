"""Networks of the SAM 2 family from the command line, with seeded weights: the path is what is shown."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from samvideo import load
from samvideo.cli.main import app
from samvideo.cli.models import ready_tracker
from samvideo.errors import ConfigError, WeightsError
from samvideo.io.masks import read_mask_objects
from samvideo.models import build
from samvideo.specs import IMAGE_SPECS, SPECS
from samvideo.state_dict import published_shapes
from samvideo.trackers import factory
from samvideo.trackers.factory import choose, create_tracker
from samvideo.weights import fetch
from samvideo.weights.catalog import checkpoint
from samvideo.weights.fetch import cached_path


def seeded_file(folder: Path, name: str) -> Path:
    """A file such as its publisher gives, with random weights."""
    generator = torch.Generator().manual_seed(0)
    shapes = published_shapes(build(name))
    state = {key: 0.02 * torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    torch.save({"model": state}, folder / f"{name}.pt")
    return folder / f"{name}.pt"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return seeded_file(tmp_path_factory.mktemp("weights"), "efficienttam-ti-512")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMVIDEO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def call(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def clip() -> str:
    assert call("demo-clip", "clip.mp4", "--frames", 5, "--width", 160, "--height", 96, "--truth", "truth")[0] == 0
    return "clip.mp4"


def test_models_lists_all() -> None:
    code, out, _ = call("models")
    assert code == 0
    table, segmenters, _ = out.split("\n\n")
    assert {line.split()[0] for line in table.splitlines()[1:]} == {"nano", "flow", *SPECS}
    assert {line.split()[0] for line in segmenters.splitlines()[2:]} == {"grabcut", *IMAGE_SPECS}
    (edgetam,) = (line for line in out.splitlines() if line.startswith("edgetam"))
    assert "repvit-m1" in edgetam
    assert "13.9 M" in edgetam
    assert edgetam.endswith("no")
    code, out, _ = call("models", "--parts")
    assert code == 0
    assert "memory:   affinity, affinity-ridge, perceiver, plain, pooled, pooled-2, ridge" in out


@pytest.mark.parametrize(
    "options", [[], ["--policy", "pruning"], ["--memory", "pooled"], ["--dtype", "bf16"], ["--direction", "both"]]
)
def test_a_network_tracks_several_objects(clip: str, weights: Path, options: list[str]) -> None:
    frame = "@2" if "both" in options else ""
    prompt = f"mask=truth/0000{2 if frame else 0}.png{frame}"
    command = ["track", clip, "-p", prompt, "--model", "efficienttam-ti-512", "--weights", weights, *options]
    code, out, err = call(*command, "--json")
    assert code == 0, err
    summary = json.loads(out)
    assert summary["frames"] == 5
    assert [entry["id"] for entry in summary["objects"]] == [1, 2, 3]
    for index in range(5):
        assert np.asarray(Image.open(f"clip_tracked/masks/{index:05d}.png")).shape == (96, 160)
    frames = json.loads(Path("clip_tracked/tracks.json").read_text())["frames"]
    assert [len(frame["objects"]) for frame in frames] == [3] * 5
    prompted = read_mask_objects(Path(f"clip_tracked/masks/0000{2 if frame else 0}.png"))
    assert set(prompted) == {1, 2, 3}


def test_backwards_reaches_the_first_frame_and_flow_does_it_too(clip: str) -> None:
    size = ("--frames", 20, "--width", 160, "--height", 96)
    assert call("demo-clip", "slow.mp4", *size, "--truth", "slow")[0] == 0
    backward = ("-p", "mask=slow/00019.png@19", "--direction", "backward", "--model", "flow", "--json")
    code, out, err = call("track", "slow.mp4", *backward)
    assert code == 0, err
    summary = json.loads(out)
    assert summary["frames"] == 20
    assert min(entry["frames_present"] for entry in summary["objects"][:2]) >= 19
    code, _, err = call("track", clip, "-p", "box=1,1,9,9", "--direction", "both", "--start", "2", "-o", "x")
    assert code == 2
    assert "leave --start" in err


def test_a_file_names_its_model(clip: str, weights: Path) -> None:
    code, out, err = call("track", clip, "-p", "box=10,20,60,70", "--weights", weights, "--end", 2, "--json")
    assert code == 0, err
    assert json.loads(out)["frames"] == 2


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--model", "sam2.1-tiny", "--weights", "{weights}"], 4, "not those of 'sam2.1-tiny'"),
        (["--model", "efficienttam-ti-512", "--weights", "{weights}", "--memory", "perceiver"], 4, "missing"),
        (["--model", "efficienttam-ti-512", "--weights", "{weights}", "--memory", "elephant"], 2, "elephant"),
        (
            ["--model", "efficienttam-ti-512", "--weights", "{weights}", "--dtype", "fp16", "--device", "cpu"],
            2,
            "not usable on a CPU",
        ),
        (["--model", "efficienttam-ti-512", "--weights", "{weights}", "--device", "cuda:99"], 2, "not available"),
        (["--model", "edgetam", "--device", "cuda:99"], 2, "not available"),  # nothing is fetched first
        (["--model", "surgical-sam2-s"], 4, "by hand"),
        (["--model", "flow", "--policy", "pruning"], 2, "flow has no policy"),
        (["--weights", "none.pt"], 4, "no file"),
        (["--direction", "sideways"], 2, "forward, backward or both"),
    ],
)
def test_what_does_not_fit(clip: str, weights: Path, options: list[str], code: int, message: str) -> None:
    arguments = [option.format(weights=weights) for option in options]
    found, out, err = call("track", clip, "-p", "box=10,20,60,70", *arguments)
    assert found == code, err
    assert message in err
    assert out == ""


def test_a_named_model_that_cannot_be_fetched_is_an_error(clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.urlopen", _offline)
    code, _, err = call("track", clip, "-p", "box=10,20,60,70", "--model", "edgetam")
    assert code == 4
    assert "about 56 MB" in err
    assert "Apache-2.0" in err
    assert "no connection" in err


def _offline(*arguments: object, **options: object) -> None:
    import urllib.error

    raise urllib.error.URLError("Network is unreachable")


def test_load_takes_the_cached_file(weights: Path) -> None:
    path = cached_path(checkpoint("efficienttam-ti-512"))
    path.parent.mkdir(parents=True)
    path.write_bytes(weights.read_bytes())
    assert load("efficienttam-ti-512").spec.name == "efficienttam-ti-512"
    assert load(weights=weights).spec.name.startswith("efficienttam-ti")
    with pytest.raises(ConfigError, match="did you mean"):
        load("efficientam-ti")
    with pytest.raises(ConfigError, match="nothing to load"):
        load()
    torch.save({"model": {"a": torch.zeros(1)}}, "other.pt")
    with pytest.raises(WeightsError, match="fits no known model"):
        load(weights="other.pt")


def test_a_checkpoint_is_hashed_on_the_first_start_only(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cached_path(checkpoint("efficienttam-ti-512"))
    path.parent.mkdir(parents=True)
    path.write_bytes(weights.read_bytes())
    hashed: list[Path] = []
    checked_sha256 = fetch._checked_sha256
    monkeypatch.setattr(
        fetch, "_checked_sha256", lambda row, file: hashed.append(file) or checked_sha256(row, file)
    )
    for _ in range(3):
        ready_tracker("efficienttam-ti-512", quiet=True)
        assert hashed == [path]


def test_auto_without_a_gpu_is_the_built_in_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory, "_has_gpu", lambda: False)
    assert choose().tracker.name == "nano"
    assert type(create_tracker("auto")).__name__ == "SamTracker"


def test_auto_with_a_gpu_is_edgetam_where_it_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory, "_has_gpu", lambda: True)
    monkeypatch.setattr(factory, "_reachable", lambda url: False)
    assert choose().tracker.name == "nano"
    assert "cannot be downloaded" in choose().reason
    monkeypatch.setattr(factory, "_reachable", lambda url: True)
    choice = choose()
    assert choice.tracker.name == "edgetam"
    assert choice.reason == "a GPU was found; its weights, about 56 MB, are downloaded once"
    assert choose(device="cpu").tracker.name == "nano"
    path = cached_path(checkpoint("edgetam"))
    path.parent.mkdir(parents=True)
    path.touch()
    assert choose().reason == "a GPU was found, and its weights are cached"


def test_a_server_that_does_not_answer_is_given_up_soon() -> None:
    assert not factory._reachable("http://127.0.0.1:9/x", patience=0.5)
