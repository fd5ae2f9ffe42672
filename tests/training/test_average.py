"""The mean of weights of related trainings."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from samvideo.errors import ConfigError, WeightsError
from samvideo.training.average import average


def weights(path: Path, value: float, shape: tuple[int, ...] = (2, 3)) -> Path:
    save_file({"a.weight": torch.full(shape, value), "a.running_mean": torch.full((2,), value)}, path)
    return path


def test_the_mean_of_all_values_is_written_with_what_it_is_of(tmp_path: Path) -> None:
    files = [weights(tmp_path / f"{value}.safetensors", value) for value in (1.0, 2.0, 6.0)]
    average(files, tmp_path / "mean.safetensors")
    found = load_file(tmp_path / "mean.safetensors")
    assert found["a.weight"].dtype == torch.float16
    assert found["a.running_mean"].dtype == torch.float32
    assert torch.equal(found["a.weight"].float(), torch.full((2, 3), 3.0))
    with safe_open(tmp_path / "mean.safetensors", "pt") as file:
        assert len(json.loads(file.metadata()["recipe"])["mean of"]) == 3


def test_weights_of_another_model_and_a_single_file_are_refused(tmp_path: Path) -> None:
    one, other = weights(tmp_path / "a.safetensors", 1.0), weights(tmp_path / "b.safetensors", 1.0, (3, 3))
    with pytest.raises(WeightsError, match="has other entries or shapes"):
        average([one, other], tmp_path / "mean.safetensors")
    with pytest.raises(ConfigError, match="at least two"):
        average([one], tmp_path / "mean.safetensors")
    with pytest.raises(ConfigError, match="not of an earlier training"):
        average([one, one], other)
    assert not (tmp_path / "mean.safetensors").exists()
