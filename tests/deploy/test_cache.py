"""A model that is not exported yet is exported once, by the process that needs it first, and then found again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_sam import clip, tiny_model

from samvideo.deploy import cache
from samvideo.errors import ConfigError, WeightsError
from samvideo.models import VideoModel
from samvideo.trackers.factory import create_tracker
from samvideo.types import Box

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


@pytest.fixture
def loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The policies of the models that were loaded: all weights are those of the tiny model."""
    loaded: list[str | None] = []

    def load(name: str, *, policy: str | None = None, **_: object) -> VideoModel:
        loaded.append(policy)
        return tiny_model(policy=policy or "fifo")

    monkeypatch.setattr("samvideo.checkpoints.load", load)
    monkeypatch.setenv("SAMVIDEO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    Path("tiny.pt").write_bytes(b"weights")
    return loaded


def track(**options: object) -> None:
    tracker = create_tracker("edgetam", weights="tiny.pt", runtime="onnx", device="cpu", **options)  # type: ignore[arg-type]
    assert tracker.step(clip(1)[0], [Box((10, 10, 40, 40))]).masks.shape == (1, 64, 64)


def exports() -> list[str]:
    return sorted(path.name for path in cache.exports_folder().iterdir() if path.is_dir())


def test_exported_once_for_the_same_weights(loads: list[str | None]) -> None:
    track()
    track()
    assert loads == [None]
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


def test_other_weights_and_policies_are_other_exports(loads: list[str | None]) -> None:
    track()
    track(policy="samurai")
    Path("tiny.pt").write_bytes(b"others")
    track()
    assert loads == [None, "samurai", None]
    assert len(exports()) == 3


def test_a_damaged_export_is_made_again(loads: list[str | None], caplog: pytest.LogCaptureFixture) -> None:
    track()
    (cache.exports_folder() / exports()[0] / "track.onnx").write_bytes(b"x")
    track()
    assert len(loads) == 2
    assert "track.onnx is damaged or was changed" in caplog.text


def test_a_failed_export_leaves_nothing(loads: list[str | None], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ConfigError("no")

    monkeypatch.setattr("samvideo.deploy.bundle.write_onnx", fail)
    with pytest.raises(ConfigError, match="no"):
        track()
    assert exports() == []




def test_a_home_that_is_a_file(loads: list[str | None]) -> None:
    Path("home").touch()
    with pytest.raises(WeightsError, match="set SAMVIDEO_HOME to another folder"):
        track()
