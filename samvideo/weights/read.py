"""Reading a checkpoint file without running what is in it."""

import io
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch

from samvideo.errors import WeightsError
from samvideo.weights.contents import SUFFIXES, inner_checkpoint, is_safetensors, kind_of

EXPORTED = (".onnx", ".engine", ".mlmodel", ".mlpackage", ".tflite", ".torchscript")
WRAPPERS = ("model", "state_dict", "model_state_dict")
"""Keys under which a checkpoint may hold its weights, beside the state of a training."""
PARTS = {"PromtEncoder": "prompt_encoder.", "MaskDecoder": "mask_decoder."}
"""Keys under which MobileSAMv2 keeps its heads [sic], and the prefixes that other models have instead."""


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a published file by the publisher's key names, on the CPU.

    Nothing in pickled files is executed (`weights_only=True`). The published `{"model": state_dict}` is unwrapped,
    as are the other `WRAPPERS`, the `PARTS` and the prefix `module.` of `DataParallel`, and a zip file with one
    checkpoint in it.

    Raises:
        WeightsError: no such file, another format, cut off, a pickle that holds more than tensors, or tensors that
            are not plain finite numbers.
    """
    state = _unwrapped(_read(path))
    if not isinstance(state, dict) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise WeightsError(f"{path} holds no weights: a dictionary of tensors, or one under 'model', expected")
    if not all(isinstance(key, str) for key in state):
        raise WeightsError(f"{path} holds no weights: names of parameters as keys expected")
    for key, tensor in state.items():
        if problem := _problem(tensor):
            raise WeightsError(f"{path} cannot be used: its {key[:80]!r} {problem}; get another copy of the file")
    return _without_module(state)


def read_tensor(path: Path) -> torch.Tensor:
    """Return the only tensor of a file, which is read as safely as `read_state` reads.

    Raises:
        WeightsError: as `read_state`, or the file holds something else.
    """
    state = _read(path)
    if isinstance(state, dict) and len(state) == 1:
        (state,) = state.values()
    if not isinstance(state, torch.Tensor):
        raise WeightsError(f"{path} cannot be used: a file of one tensor expected")
    if problem := _problem(state):
        raise WeightsError(f"{path} cannot be used: its tensor {problem}; get another copy of the file")
    return state


def _read(path: Path) -> object:
    suffix = path.suffix.lower()
    if suffix in EXPORTED:
        raise WeightsError(
            f"{path} is not a checkpoint but an exported network, whose parameters have no names: get the "
            f"checkpoint it was made from ({', '.join(SUFFIXES)})"
        )
    if suffix not in (*SUFFIXES, ".zip"):
        raise WeightsError(f"{path} is not a checkpoint: a file ending in {', '.join(SUFFIXES)} expected")
    if not path.is_file():
        raise WeightsError(f"there is no file {path}: check the spelling and the folder you are in")
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    if kind := kind_of(head):
        raise WeightsError(f"{path} is {kind} instead of a checkpoint: get the file itself again")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch says of old and of damaged files
        return _read_safetensors(path) if is_safetensors(head) else _read_pickle(path)


def _unwrapped(state: object) -> object:
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if isinstance(state, dict) and state and all(isinstance(state.get(part), dict) for part in PARTS):
        parts = [(prefix, _without_module(state[part])) for part, prefix in PARTS.items()]
        return {f"{prefix}{key}": value for prefix, part in parts for key, value in part.items()}
    return state


def _without_module(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    whole = all(str(key).startswith("module.") for key in state)
    return {key.removeprefix("module."): value for key, value in state.items()} if whole else dict(state)


def _problem(tensor: torch.Tensor) -> str:
    """What makes a tensor unfit as a parameter; empty if nothing does."""
    unlike = "quantised" if tensor.is_quantized else "nested" if tensor.is_nested else ""
    if unlike or tensor.layout != torch.strided or tensor.device.type != "cpu":
        kind = unlike or f"{tensor.layout}, {tensor.device.type}".replace("torch.", "")
        return f"is not a plain tensor ({kind})"
    if not tensor.is_floating_point() and (tensor.is_complex() or tensor.dim()):  # counters are integers
        return f"has {str(tensor.dtype).removeprefix('torch.')} numbers, floating-point numbers expected"
    if tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():
        return f"repeats few numbers to the shape {tuple(tensor.shape)}"
    if not torch.isfinite(tensor.float() if tensor.itemsize == 1 else tensor).all():
        return "has values that are NaN or infinite"
    return ""


def _read_safetensors(path: Path) -> object:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:  # of a damaged file, also KeyError and the like
        raise WeightsError(f"{path} cannot be read as safetensors ({_reason(error)}): fetch it again") from error


def _read_pickle(path: Path) -> object:
    try:
        if not zipfile.is_zipfile(path):
            return _load(path)
        with zipfile.ZipFile(path) as archive:
            entry = inner_checkpoint(archive)
            check_archive(archive, None if entry else path.stat().st_size)
            if entry is None:
                _check_checkpoint(archive, path)
                return _load(path)
            content = io.BytesIO(archive.read(entry))
        with zipfile.ZipFile(content) as archive:
            check_archive(archive, entry.file_size)
        content.seek(0)
        return _load(content)
    except WeightsError:
        raise
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is refused: it holds more than tensors, such as a whole pickled network, or is damaged. "
            "Nothing in it was run. Get its state dict from its publisher or, where you trust the file, load it "
            "with its own code and save its state_dict(), or convert it to safetensors"
        ) from error
    except Exception as error:  # of a damaged file: any kind
        raise WeightsError(f"{path} is damaged or cut off ({_reason(error)}): fetch it again") from error


def _load(file: Path | BinaryIO) -> object:
    return torch.load(file, map_location="cpu", weights_only=True)


def _check_checkpoint(archive: zipfile.ZipFile, path: Path) -> None:
    """Raise WeightsError for what torch cannot read without running it, or not at all."""
    names = [name.partition("/")[2] for name in archive.namelist()]
    if "constants.pkl" in names:
        raise WeightsError(
            f"{path} is a TorchScript program, which is not run: get the checkpoint it was made from"
        )
    if "data.pkl" not in names:
        raise WeightsError(f"{path} holds no checkpoint: one file ending in {', '.join(SUFFIXES)} in it expected")


def check_archive(archive: zipfile.ZipFile, size: int | None) -> None:
    """Raise ValueError if a checkpoint is damaged, or unpacks into more than its `size`, which torch never writes.

    torch does not compare checksums, so that it loads a damaged file without a word.
    """
    unpacked = sum(entry.file_size for entry in archive.infolist())
    if size is not None and unpacked > size:
        raise ValueError(f"it unpacks into {unpacked:,} bytes")
    if (broken := archive.testzip()) is not None:
        raise ValueError(f"{broken} in it does not have its checksum")


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error).strip() else type(error).__name__
