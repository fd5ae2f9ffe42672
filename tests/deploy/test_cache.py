"""A model that is not exported yet is exported once, by the process that needs it first, and then found again."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_sam import clip

from samvideo.deploy import cache
from samvideo.errors import ConfigError, WeightsError
from samvideo.trackers.factory import create_tracker
from samvideo.types import Box

pytest.importorskip("onnxruntime")


@pytest.fixture
def made(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The policies of the models that are exported, in the place of which the tiny one is."""
    policies: list[str | None] = []

    def load(name: str, *, policy: str | None = None, **_: object) -> None:
        policies.append(policy)

    monkeypatch.setattr("samvideo.checkpoints.load", load)
    monkeypatch.setattr("samvideo.deploy.bundle.export_model", lambda _, folder: shutil.copytree(exported, folder))
    monkeypatch.setenv("SAMVIDEO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    Path("tiny.pt").write_bytes(b"weights")
    return policies


def track(policy: str | None = None) -> None:
    tracker = create_tracker("edgetam", weights="tiny.pt", runtime="onnx", device="cpu", policy=policy)
    assert tracker.step(clip(1)[0], [Box((10, 10, 40, 40))]).masks.shape == (1, 64, 64)


def exports() -> list[str]:
    return sorted(path.name for path in cache.exports_folder().iterdir() if path.is_dir())


def test_exported_once_for_the_same_weights(made: list[str | None]) -> None:
    track()
    track()
    assert made == [None]
    assert len(exports()) == 1
    assert exports()[0].startswith("edgetam-")
    code = """
import sys
from samvideo.trackers.factory import create_tracker
create_tracker("edgetam", weights="tiny.pt", runtime="onnx")
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_other_weights_and_policies_are_other_exports(made: list[str | None]) -> None:
    track()
    track("samurai")
    Path("tiny.pt").write_bytes(b"others")
    track()
    assert made == [None, "samurai", None]
    assert len(exports()) == 3


def test_a_damaged_export_is_made_again(made: list[str | None], caplog: pytest.LogCaptureFixture) -> None:
    track()
    (cache.exports_folder() / exports()[0] / "track.onnx").write_bytes(b"x")
    track()
    assert len(made) == 2
    assert "track.onnx is damaged or was changed" in caplog.text


def test_a_failed_export_leaves_nothing(made: list[str | None], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ConfigError("no")

    monkeypatch.setattr("samvideo.deploy.bundle.export_model", fail)
    with pytest.raises(ConfigError, match="no"):
        track()
    assert exports() == []


def test_a_home_that_is_a_file(made: list[str | None]) -> None:
    Path("home").touch()
    with pytest.raises(WeightsError, match="set SAMVIDEO_HOME to another folder"):
        track()
