"""Pickles a tracker's state; the loader knows only the classes of a few modules and arrays."""

import io
import pickle
from importlib import import_module
from typing import Any

import numpy as np

from samvideo.errors import ConfigError

MAGIC = b"samvideo-state-1 "


def rebuild_array(data: bytes, dtype: str, shape: tuple[int, ...]) -> Any:
    """A writable array, or a NumPy scalar where the shape is empty."""
    array = np.frombuffer(bytearray(data), dtype).reshape(shape)
    return array if shape else array[()]


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, np.ndarray | np.generic):
            return rebuild_array, (value.tobytes(), value.dtype.str, value.shape)
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, modules: tuple[str, ...]) -> None:
        super().__init__(file)
        self._modules = modules

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == (__name__, rebuild_array.__name__):
            return rebuild_array
        if module.startswith(self._modules):
            found = getattr(import_module(module), name, None)
            if isinstance(found, type) and found.__module__ == module:
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is not part of a tracker's state")


def dump_state(kind: str, state: Any) -> bytes:
    """Serialise a state: tuples, dicts, dataclasses, arrays and instances of the tracker's classes.

    `kind` is checked on loading.
    """
    file = io.BytesIO()
    file.write(MAGIC + kind.encode() + b"\n")
    _Pickler(file, protocol=4).dump(state)
    return file.getvalue()


def load_state(kind: str, data: bytes, modules: tuple[str, ...]) -> Any:
    """Load what `dump_state` wrote; ConfigError if it is of another kind, or damaged.

    Only classes of `modules`, given as prefixes, are loaded.
    """
    head, _, body = data.partition(b"\n")
    if head != MAGIC + kind.encode():
        raise ConfigError(f"this is not the state of a tracker of kind {kind!r}: it begins with {head[:40]!r}")
    try:
        return _Unpickler(io.BytesIO(body), modules).load()
    except Exception as error:  # pickle raises nearly anything for damaged data
        raise ConfigError(f"the state of the tracker is damaged and cannot be restored: {error}") from error
