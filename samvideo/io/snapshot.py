"""Pickles a tracker's state; the loader knows only the classes of a few modules, arrays and random generators."""

import io
import pickle
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from samvideo.errors import ConfigError

MAGIC = b"samvideo-state-1 "


def rebuild_array(data: bytes, dtype: str, shape: tuple[int, ...]) -> Any:
    """A writable array, or a NumPy scalar where the shape is empty."""
    array = np.frombuffer(bytearray(data), dtype).reshape(shape)
    return array if shape else array[()]


def rebuild_generator(state: dict[str, Any]) -> np.random.Generator:
    """A PCG64 generator that continues where another one was."""
    generator = np.random.default_rng(0)
    generator.bit_generator.state = state
    return generator


_BUILTIN: dict[tuple[str, str], Any] = {
    (__name__, "rebuild_array"): rebuild_array,
    (__name__, "rebuild_generator"): rebuild_generator,
    ("builtins", "slice"): slice,
}


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
    def __init__(self, file: io.BytesIO, shared: Mapping[str, Any], modules: tuple[str, ...]) -> None:
        super().__init__(file)
        self._shared, self._modules = shared, modules

    def persistent_load(self, name: str) -> Any:
        return self._shared[name]

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _BUILTIN:
            return _BUILTIN[module, name]
        if module.startswith(self._modules):
            found = getattr(import_module(module), name, None)
            if isinstance(found, type) and found.__module__ == module:
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a tracker's state")


def dump_state(kind: str, state: Any, shared: Mapping[str, Any] | None = None) -> bytes:
    """Serialise a state: tuples, dicts, dataclasses, arrays and instances of the tracker's classes.

    `kind` is checked on loading; `shared` names objects that the state refers to but that are not part of it.
    """
    file = io.BytesIO()
    file.write(MAGIC + kind.encode() + b"\n")
    _Pickler(file, shared or {}).dump(state)
    return file.getvalue()


def load_state(kind: str, data: bytes, modules: tuple[str, ...], shared: Mapping[str, Any] | None = None) -> Any:
    """Load what `dump_state` wrote; ConfigError if it is of another kind, or damaged.

    Only classes of `modules`, given as prefixes, are loaded.
    """
    head, _, body = data.partition(b"\n")
    if head != MAGIC + kind.encode():
        raise ConfigError(f"this is not the state of a tracker of kind {kind!r}: it begins with {head[:40]!r}")
    try:
        return _Unpickler(io.BytesIO(body), shared or {}, modules).load()
    except Exception as error:  # pickle raises nearly anything for damaged data
        raise ConfigError(f"the state of the tracker is damaged and cannot be restored: {error}") from error
