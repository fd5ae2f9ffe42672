"""Reading a checkpoint file without running what is in it."""

import pickle
import zipfile
from pathlib import Path

import torch

from samvideo.errors import WeightsError

SUFFIXES = (".pt", ".pth", ".safetensors")


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a published file by the publisher's key names, on the CPU.

    Nothing in pickled files is executed (`weights_only=True`); the published `{"model": state_dict}` is unwrapped.

    Raises:
        WeightsError: no such file, another format, cut off, or a pickle that holds more than tensors.
    """
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"{path} is no checkpoint: a file ending in {', '.join(SUFFIXES)} expected")
    if not path.is_file():
        raise WeightsError(f"there is no file {path}")
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]
    if not isinstance(state, dict) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise WeightsError(f"{path} holds no weights: a dictionary of tensors, or one under 'model', expected")
    return state


def _read_safetensors(path: Path) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors ({error}): fetch it again") from error


def _read_pickle(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is refused: it holds more than tensors, or is damaged. Nothing in it was run. "
            "Get the file from its publisher, or convert it to safetensors where you trust it"
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path} is damaged or cut off ({reason}): fetch it again") from error
