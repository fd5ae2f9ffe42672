"""Runs exported models on ONNX Runtime; no torch."""

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from samvideo.deploy.graph_runtime import GraphRuntime, RunsGraph
from samvideo.deploy.manifest import Manifest, read_constants, read_manifest
from samvideo.deploy.nano_runtime import runtime_of
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
        providers: of ONNX Runtime, by preference, or pairs of one and its options.
        threads: to compute with; 0 for one a core.
        bf16: multiply matrices in bfloat16 on Arm CPUs.
    """

    def __init__(self, path: Path, providers: list[Any], threads: int = 0, *, bf16: bool = False) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        if bf16:
            options.add_session_config_entry("mlas.enable_gemm_fastmath_arm64_bfloat16", "1")
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
    return runtime_of(manifest, read_constants(folder, manifest), graphs, policy)


def open_graphs(folder: Path, *, device: str = "auto", threads: int = 0) -> tuple[Manifest, dict[str, RunsGraph]]:
    """The manifest and the graphs of an exported video or image model; arguments and errors as of `open_onnx`."""
    providers = _providers(device)
    manifest = read_manifest(folder)
    if manifest.graph_format != "onnx":
        raise ConfigError(f"{folder} holds graphs for OpenVINO: track with --runtime openvino")
    bf16 = manifest.precision == "bf16"
    if bf16:
        providers = _with_bfloat16(providers)
    return manifest, {
        name: OnnxGraph(folder / file.name, providers, threads, bf16=bf16) for name, file in manifest.graphs.items()
    }


def _with_bfloat16(providers: list[Any]) -> list[Any]:
    """Providers with the option to compute in bfloat16; the graphs are float32."""
    if providers[0] == PROVIDERS["tensorrt"]:
        return [(providers[0], {"trt_bf16_enable": True}), *providers[1:]]
    if providers[0] != PROVIDERS["cpu"] or platform.machine().lower() not in ("arm64", "aarch64"):
        raise ConfigError(
            "ONNX Runtime computes in bfloat16 with TensorRT and on Arm CPUs only: track with --runtime openvino, "
            "or export with another --precision"
        )
    return providers


def _providers(device: str) -> list[Any]:
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
