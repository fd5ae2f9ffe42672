"""The weights that are part of the package, and files of a user's own in their place."""

import socket
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from samvideo import checkpoints
from samvideo.errors import WeightsError
from samvideo.trackers.factory import create_tracker
from samvideo.types import Mask
from tests.scenes import RED, Shape, overlap, scene


def test_the_bundle_is_small() -> None:
    assert (checkpoints.BUNDLED_FOLDER / "nano.safetensors").stat().st_size <= 5e6


@pytest.mark.parametrize("content", [None, b"", b"not safetensors"])
def test_a_bad_file_of_weights_is_told(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"own\.safetensors"):
        create_tracker("nano", weights=path)


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    save_file({"fusion.other": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="not those of 'nano'"):
        create_tracker("nano", weights=tmp_path / "other.safetensors")


def test_a_file_of_its_weights_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    path.write_bytes((checkpoints.BUNDLED_FOLDER / "nano.safetensors").read_bytes())
    assert checkpoints.load(weights=path).name == "nano"
    with pytest.raises(WeightsError, match="By keys and shapes they fit: nano"):
        checkpoints.load("efficienttam-ti", weights=path)


def test_an_installation_without_them_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "BUNDLED_FOLDER", tmp_path)
    with pytest.raises(WeightsError, match="install samvideo again"):
        create_tracker("nano")


def test_it_never_touches_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("nano opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    frames, truth = scene(2, Shape(lambda index: (50 + 2.0 * index, 55), 20, RED))
    tracker = create_tracker("nano")
    tracker.step(frames[0], [Mask(truth[0, 0])])
    assert tracker.step(frames[1]).present.all()


def test_bfloat16_gives_the_same_masks() -> None:
    """Encoder and memory in bfloat16 move few pixels at the edges, and scores by a few hundredths."""
    frames, truth = scene(6, Shape(lambda index: (50 + 3.0 * index, 55), 20, RED))
    exact, rounded = (create_tracker("nano", device="cpu", dtype=dtype) for dtype in ("fp32", "bf16"))
    for frame in frames:
        prompts = [] if frame.index else [Mask(truth[0, 0])]
        one, other = exact.step(frame, prompts), rounded.step(frame, prompts)
        assert overlap(one.masks[0], other.masks[0]) > 0.97
        assert np.abs(one.scores - other.scores).max() < 0.05
        assert overlap(one.masks[0], truth[frame.index, 0]) > 0.9
