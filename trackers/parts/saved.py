"""Saving a tracker's objects as bytes, and loading them without running anything that the bytes may name.

Pickle does the work, with a loader that knows the classes of `samvideo.trackers`, arrays and random generators, and nothing else.
"""

import io
import pickle
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from samvideo.errors import ConfigError

MAGIC = b"samvideo-cues-1\n"
_OWN = "samvideo.trackers."


def rebuild_array(data: bytes, dtype: str, shape: tuple[int, ...]) -> Any:
    """A writable array, or a NumPy scalar where the shape is empty."""
    array = np.frombuffer(bytearray(data), dtype).reshape(shape)
    return array if shape else array[()]


def rebuild_generator(state: dict[str, Any]) -> np.random.Generator:
    """A PCG64 generator that continues where another one was."""
    generator = np.random.default_rng(0)
    generator.bit_generator.state = state
    return generator


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, shared: Mapping[str, Any]) -> None:
        super().__init__(file, protocol=4)
        self._names = {id(value): name for name, value in shared.items()}

    def persistent_id(self, value: Any) -> str | None:
        return self._names.get(id(value))

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, np.ndarray | np.generic):
            return rebuild_array, (value.tobytes(), value.dtype.str, value.shape)
        if isinstance(value, np.random.Generator):
            return rebuild_generator, (value.bit_generator.state,)
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, shared: Mapping[str, Any]) -> None:
        super().__init__(file)
        self._shared = shared

    def persistent_load(self, name: str) -> Any:
        return self._shared[name]

    def find_class(self, module: str, name: str) -> Any:
        found = getattr(import_module(module), name, None) if module.startswith(_OWN) else None
        if found in (rebuild_array, rebuild_generator) or (isinstance(found, type) and found.__module__ == module):
            return found
        if (module, name) == ("builtins", "slice"):
            return slice
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a tracker's state")


def dump_state(state: Any, shared: Mapping[str, Any]) -> bytes:
    """Serialise a state; objects of `shared` are referred to by their name."""
    file = io.BytesIO()
    file.write(MAGIC)
    _Pickler(file, shared).dump(state)
    return file.getvalue()


def load_state(data: bytes, shared: Mapping[str, Any]) -> Any:
    """Load what `dump_state` wrote.

    Raises:
        ConfigError: the bytes were not written by it, or are damaged.
    """
    if not data.startswith(MAGIC):
        raise ConfigError(f"these {len(data)} bytes are not the state of a cue-based tracker (flow or nano)")
    try:
        return _Unpickler(io.BytesIO(data[len(MAGIC) :]), shared).load()
    except Exception as error:  # pickle raises nearly anything for damaged data
        raise ConfigError(f"the state of the tracker is damaged and cannot be restored: {error}") from error
