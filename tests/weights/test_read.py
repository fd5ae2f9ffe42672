import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from samvideo.errors import WeightsError
from samvideo.weights.read import read_state

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}


def test_every_published_form_is_read(tmp_path: Path) -> None:
    torch.save({"model": STATE}, tmp_path / "wrapped.pt")
    torch.save(STATE, tmp_path / "plain.pth")
    save_file(STATE, tmp_path / "hub.safetensors")
    for path in tmp_path.iterdir():
        state = read_state(path)
        assert {key: value.tolist() for key, value in state.items()} == {k: v.tolist() for k, v in STATE.items()}


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch pwned",)


def test_a_hostile_pickle_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Hostile()}, tmp_path / "zip.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Hostile(), protocol=2))
    for name in ("zip.pt", "raw.pt"):
        with pytest.raises(WeightsError, match="refused"):
            read_state(tmp_path / name)
    assert not (tmp_path / "pwned").exists()


def test_damaged_files(tmp_path: Path) -> None:
    torch.save({"model": STATE}, tmp_path / "whole.pt")
    save_file(STATE, tmp_path / "whole.safetensors")
    for suffix in (".pt", ".safetensors"):
        content = (tmp_path / f"whole{suffix}").read_bytes()
        for length in (0, 10, len(content) // 2, len(content) - 1):
            (tmp_path / f"cut{suffix}").write_bytes(content[:length])
            with pytest.raises(WeightsError, match=r"again|refused"):
                read_state(tmp_path / f"cut{suffix}")


def test_files_that_hold_no_weights(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"model": {}}, tmp_path / "empty.pt")
    for name, message in (("list.pt", "no weights"), ("empty.pt", "no weights"), ("none.pt", "no file")):
        with pytest.raises(WeightsError, match=message):
            read_state(tmp_path / name)
    with pytest.raises(WeightsError, match="is no checkpoint"):
        read_state(tmp_path / "weights.onnx")
