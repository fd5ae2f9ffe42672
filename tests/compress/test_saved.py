"""Files of compressed models."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from samvideo.checkpoints import load, load_any
from samvideo.compress.saved import ENTRY, Operation, Recipe, save_compressed
from samvideo.errors import WeightsError

FUSED = Recipe(model="nano", operations=[Operation(name="fuse")])


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "nano.safetensors"
    save_compressed(path, load("nano").fuse(), FUSED)
    return path


def test_operations_are_repeated_before_the_weights_are_loaded(fused: Path) -> None:
    own, found = load("nano").fuse(), load(weights=fused)
    assert found.fused
    assert found.name == "nano"
    for key, value in own.state_dict().items():
        assert torch.equal(found.state_dict()[key], value)
    assert load_any("nano", weights=fused, policy="pruning").fuse() is not None, "fused once only"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ('{"model": "nano"}', "operations is missing"),
        ('{"model": "nano", "operations": [{"name": "sing"}]}', "sing"),
        ('{"model": "nano", "operations": [], "version": 2}', "version 2"),
        ('{"model": "mega", "operations": []}', "mega"),
        ('{"model": "nano", "operations": []}', "do not fit"),
    ],
)
def test_a_damaged_recipe_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(1)}, path, {ENTRY: text})
    with pytest.raises(WeightsError, match=message):
        load(weights=path)


def test_another_name_is_refused(fused: Path) -> None:
    with pytest.raises(WeightsError, match="holds a compressed nano, not edgetam"):
        load("edgetam", weights=fused)
