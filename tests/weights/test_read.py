import os
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from samvideo.errors import WeightsError
from samvideo.weights.read import read_state

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2)}


def test_every_published_form_is_read(tmp_path: Path) -> None:
    torch.save({"model": STATE}, tmp_path / "wrapped.pt")
    torch.save(STATE, tmp_path / "PLAIN.PTH")
    save_file(STATE, tmp_path / "hub.safetensors")
    torch.save(STATE, tmp_path / "pytorch_model.bin")
    torch.save({"state_dict": STATE}, tmp_path / "lightning.ckpt")
    save_file(STATE, tmp_path / "renamed.pt")
    for path in tmp_path.iterdir():
        state = read_state(path)
        assert {key: value.tolist() for key, value in state.items()} == {k: v.tolist() for k, v in STATE.items()}


def test_what_was_saved_instead_of_a_file_is_named(tmp_path: Path) -> None:
    for content, kind in (
        ("<!DOCTYPE html><html>", "a web page"),
        ("version https://git-lfs", "a Git LFS pointer"),
    ):
        (tmp_path / "w.pt").write_text(content)
        with pytest.raises(WeightsError, match=f"w.pt is {kind} instead of a checkpoint"):
            read_state(tmp_path / "w.pt")


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
    with pytest.raises(WeightsError, match="is not a checkpoint"):
        read_state(tmp_path / "weights.onnx")


def test_checkpoints_of_training_tools_are_unwrapped(tmp_path: Path) -> None:
    parallel = {f"module.{key}": value for key, value in STATE.items()}
    torch.save({"state_dict": STATE, "epoch": 3}, tmp_path / "lightning.pt")
    torch.save({"model": {"state_dict": parallel}, "optimizer": {}}, tmp_path / "parallel.pt")
    for name in ("lightning.pt", "parallel.pt"):
        assert read_state(tmp_path / name).keys() == STATE.keys()


UNFIT = {
    "NaN": lambda: torch.tensor([1.0, float("nan")]),
    "infinite": lambda: torch.tensor([-float("inf")], dtype=torch.float16),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "sparse_csr": lambda: torch.eye(3).to_sparse_csr(),
    "meta": lambda: torch.empty(3, device="meta"),
    "int64": lambda: torch.ones(3, dtype=torch.int64),
    "bool": lambda: torch.ones(3, dtype=torch.bool),
    "complex64": lambda: torch.ones(1, dtype=torch.complex64),
    "quantised": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8),
    "repeats few": lambda: torch.ones(1).expand(1 << 30),
    "NaN or": lambda: torch.tensor([float("nan")]).to(torch.float8_e5m2),
}


@pytest.mark.filterwarnings("ignore")  # torch's own, on sparse and quantised tensors
@pytest.mark.parametrize("kind", UNFIT)
def test_tensors_that_are_no_plain_finite_numbers_are_refused(kind: str, tmp_path: Path) -> None:
    torch.save({"model": STATE | {"b.weight": UNFIT[kind]()}}, tmp_path / "odd.pt")
    with pytest.raises(WeightsError, match=rf"odd\.pt cannot be used: its 'b\.weight' .*{kind}"):
        read_state(tmp_path / "odd.pt")


def test_counters_are_integers(tmp_path: Path) -> None:
    torch.save(STATE | {"norm.num_batches_tracked": torch.tensor(7)}, tmp_path / "w.pt")
    assert read_state(tmp_path / "w.pt")["norm.num_batches_tracked"] == 7


def test_keys_that_are_no_names(tmp_path: Path) -> None:
    torch.save({1: torch.zeros(2), "a": torch.zeros(2)}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="names of parameters"):
        read_state(tmp_path / "w.pt")


def test_an_archive_that_unpacks_into_much_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1 << 20)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(tmp_path / "bomb.pt", "w") as bomb:
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name), zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match="unpacks into"):
        read_state(tmp_path / "bomb.pt")


def test_a_damaged_number_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"model": STATE | {"a.weight": torch.full((64, 64), 3.0)}}, path)
    content = path.read_bytes()
    at = content.index(np.full(8, 3.0, "<f4").tobytes()) + 2
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with pytest.raises(WeightsError, match=r"damaged or cut off \(.+ in it does not have its checksum\): fetch it"):
        read_state(path)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_refused(tmp_path: Path) -> None:
    torch.save(STATE | {"a.bias": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"not a plain tensor \(nested\)"):
        read_state(tmp_path / "w.pt")


def mutated(content: bytes, random: np.random.Generator) -> bytes:
    """Content with bytes changed, taken out, repeated or cut off."""
    data = bytearray(content)
    for _ in range(random.integers(1, 6)):
        at, length = int(random.integers(len(data))), int(random.integers(1, 9))
        change = random.integers(4)
        if change == 0:
            data[at : at + length] = random.bytes(length)
        elif change == 1:
            del data[at : at + length]
        elif change == 2:
            data[at:at] = data[at : at + length]
        else:
            data[at] ^= 1 << int(random.integers(8))
    return bytes(data) if random.random() < 0.9 else bytes(data[: random.integers(len(data))])


@pytest.mark.parametrize("form", ["zip.pt", "old.pth", "hub.safetensors"])
def test_mutated_files_are_read_or_refused(form: str, tmp_path: Path) -> None:
    path = tmp_path / form
    if path.suffix == ".safetensors":
        save_file(STATE, path)
    else:
        torch.save({"model": STATE}, path, _use_new_zipfile_serialization=form == "zip.pt")
    content, random = path.read_bytes(), np.random.default_rng(1)
    for _ in range(300):
        path.write_bytes(mutated(content, random))
        with suppress(WeightsError):
            read_state(path)
