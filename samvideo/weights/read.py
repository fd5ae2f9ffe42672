"""Reading a checkpoint file without running what is in it."""

import pickle
import warnings
import zipfile
from pathlib import Path

import torch

from samvideo.errors import WeightsError

SUFFIXES = (".pt", ".pth", ".safetensors")
WRAPPERS = ("model", "state_dict", "model_state_dict")
"""Keys under which a checkpoint may hold its weights, beside the state of a training."""


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a published file by the publisher's key names, on the CPU.

    Nothing in pickled files is executed (`weights_only=True`). The published `{"model": state_dict}` is unwrapped,
    as are the other `WRAPPERS` and the prefix `module.` of `DataParallel`.

    Raises:
        WeightsError: no such file, another format, cut off, a pickle that holds more than tensors, or tensors that
            are no plain finite numbers.
    """
    state = _read(path)
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise WeightsError(f"{path} holds no weights: a dictionary of tensors, or one under 'model', expected")
    if not all(isinstance(key, str) for key in state):
        raise WeightsError(f"{path} holds no weights: names of parameters as keys expected")
    for key, tensor in state.items():
        if problem := _problem(tensor):
            raise WeightsError(f"{path} cannot be used: its {key[:80]!r} {problem}; get another copy of the file")
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    return state


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
    if path.suffix.lower() not in SUFFIXES:
        raise WeightsError(f"{path} is no checkpoint: a file ending in {', '.join(SUFFIXES)} expected")
    if not path.is_file():
        raise WeightsError(f"there is no file {path}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch says of old and of damaged files
        return _read_safetensors(path) if path.suffix.lower() == ".safetensors" else _read_pickle(path)


def _problem(tensor: torch.Tensor) -> str:
    """What makes a tensor unfit as a parameter; empty if nothing does."""
    unlike = "quantised" if tensor.is_quantized else "nested" if tensor.is_nested else ""
    if unlike or tensor.layout != torch.strided or tensor.device.type != "cpu":
        kind = unlike or f"{tensor.layout}, {tensor.device.type}".replace("torch.", "")
        return f"is no plain tensor ({kind})"
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
        _check_archive(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is refused: it holds more than tensors, or is damaged. Nothing in it was run. "
            "Get the file from its publisher, or convert it to safetensors where you trust it"
        ) from error
    except Exception as error:  # of a damaged file: any kind
        raise WeightsError(f"{path} is damaged or cut off ({_reason(error)}): fetch it again") from error


def _check_archive(path: Path) -> None:
    """Raise ValueError if a zip file unpacks into more than its own size, which torch never writes, or is damaged.

    torch does not compare checksums, so that it loads a damaged file without a word.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > path.stat().st_size:
                raise ValueError(f"it unpacks into {unpacked:,} bytes")
            if (broken := archive.testzip()) is not None:
                raise ValueError(f"{broken} in it does not have its checksum")


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error).strip() else type(error).__name__
