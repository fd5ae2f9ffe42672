"""The runtimes by name, and exported models on them; no torch."""

import os
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from samvideo.errors import ConfigError, WeightsError
from samvideo.weights.contents import SUFFIXES

if TYPE_CHECKING:
    from samvideo.deploy.graph_runtime import GraphRuntime

TORCH = "torch"
OPENERS = {
    "onnx": "samvideo.deploy.onnx_runtime:open_onnx",
    "openvino": "samvideo.deploy.openvino_runtime:open_openvino",
}
"""What opens an exported model, as `open_exported` without its first argument, by the name of the runtime."""
RUNTIMES = (TORCH, *OPENERS)


def check_runtime(name: str) -> None:
    """Raise ConfigError if there is no runtime of a name."""
    if name not in RUNTIMES:
        raise ConfigError(f"no runtime is called {name!r}: {', '.join(RUNTIMES)} expected")


def open_exported(
    runtime: str, folder: Path, *, policy: str | None = None, device: str = "auto", threads: int | None = None
) -> "GraphRuntime":
    """Open an exported model; arguments and errors as of `samvideo.deploy.onnx_runtime.open_onnx`.

    Without `threads`, OMP_NUM_THREADS says how many.
    """
    if not folder.is_dir():
        raise WeightsError(
            f"{folder} is {'a file' if folder.exists() else 'not there'}: the runtime {runtime} takes the folder "
            f"that `samvideo export-model` wrote, or weights that it exports once ({', '.join(SUFFIXES)})"
        )
    threads = _threads() if threads is None else threads
    found: GraphRuntime = resolve_name(OPENERS[runtime])(folder, policy=policy, device=device, threads=threads)
    return found


def is_weights(path: Path) -> bool:
    """Whether a path names weights for PyTorch, to be exported first, and not an exported model."""
    return not path.is_dir() and path.suffix.lower() in SUFFIXES


def _threads() -> int:
    """As many as OMP_NUM_THREADS says, which libraries read themselves where they use OpenMP; 0 for one a core."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdecimal() else 0
