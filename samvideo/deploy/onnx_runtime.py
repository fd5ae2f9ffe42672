"""Runs exported models on ONNX Runtime; no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samvideo.deploy.graph_runtime import GraphRuntime, RunsGraph
from samvideo.deploy.manifest import Manifest, read_manifest
from samvideo.deploy.nano_runtime import NanoRuntime
from samvideo.errors import ConfigError, WeightsError

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}
"""By the name of the device; "auto" takes CUDA if it is there."""


class OnnxGraph:
    """One graph; see `samvideo.deploy.graph_runtime.RunsGraph`.

    Args:
        path: of the file.
        providers: of ONNX Runtime, by preference.
        threads: to compute with; 0 for one a core.
    """

    def __init__(self, path: Path, providers: list[str], threads: int = 0) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors only
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # ONNX Runtime's classes have no common base but this
            raise WeightsError(f"{path} cannot be loaded by ONNX Runtime: {error}") from error
        self._inputs = [x.name for x in self._session.get_inputs()]
        self._outputs = [x.name for x in self._session.get_outputs()]

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run; inputs that the graph does not have are left out."""
        found = self._session.run(self._outputs, {name: inputs[name] for name in self._inputs})
        return dict(zip(self._outputs, found, strict=True))


def open_onnx(folder: Path, *, policy: str | None = None, device: str = "auto", threads: int = 0) -> GraphRuntime:
    """Open an exported model.

    Args:
        folder: that `samvideo export-model` wrote.
        policy: another memory policy than the one it was exported with.
        device: auto, cpu, cuda, tensorrt or coreml.
        threads: of the CPU; 0 for one a core.

    Raises:
        ConfigError: ONNX Runtime is missing or lacks the device, or the policy does not suit the export.
        WeightsError: see `read_manifest`.
    """
    manifest, graphs = open_graphs(folder, device=device, threads=threads)
    if manifest.image is not None:
        raise ConfigError(f"{folder} holds {manifest.model}, which segments images and cannot track")
    with np.load(folder / manifest.constants.name, allow_pickle=False) as file:
        constants = {name: file[name] for name in file.files}
    kind = GraphRuntime if manifest.window is None else NanoRuntime
    return kind(manifest, constants, graphs, policy)


def open_graphs(folder: Path, *, device: str = "auto", threads: int = 0) -> tuple[Manifest, dict[str, RunsGraph]]:
    """The manifest and the graphs of an exported video or image model; arguments and errors as of `open_onnx`."""
    providers = _providers(device)
    manifest = read_manifest(folder)
    return manifest, {
        name: OnnxGraph(folder / file.name, providers, threads) for name, file in manifest.graphs.items()
    }


def _providers(device: str) -> list[str]:
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError("ONNX Runtime is not installed: pip install 'samvideo[onnx]'") from error
    there = onnxruntime.get_available_providers()
    if device == "auto":
        device = "cuda" if PROVIDERS["cuda"] in there else "cpu"
    if device not in PROVIDERS:
        raise ConfigError(f"no device of ONNX Runtime is called {device!r}: auto, {', '.join(PROVIDERS)} expected")
    if PROVIDERS[device] not in there:
        usable = [name for name, provider in PROVIDERS.items() if provider in there]
        raise ConfigError(f"ONNX Runtime has no {device!r} here: {', '.join(usable)} expected")
    return list(dict.fromkeys([PROVIDERS[device], PROVIDERS["cpu"]]))
