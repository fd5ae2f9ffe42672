"""Writes graphs in OpenVINO's format, and runs exported models on OpenVINO; no torch."""

import sys
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from samvideo.deploy.graph_runtime import GraphRuntime, RunsGraph
from samvideo.deploy.manifest import Precision, read_constants, read_manifest
from samvideo.deploy.nano_runtime import runtime_of
from samvideo.errors import ConfigError, WeightsError
from samvideo.io.files import as_os_error

KEPT = 8
"""Numbers of objects or points that a graph stays compiled for; those that came first are forgotten."""


class OpenVinoGraph:
    """One graph; see `samvideo.deploy.graph_runtime.RunsGraph`.

    It is compiled for each shape of its inputs: graphs for any number of objects fail on CPUs, or give fewer rows,
    when the number changes (OpenVINO 2026.4).

    Args:
        path: of the file, .xml with weights beside it or .onnx.
        device: of OpenVINO, such as CPU.
        hint: inference precision.
        threads: to compute with; 0 for one a core.
    """

    def __init__(self, path: Path, device: str, hint: str, threads: int = 0) -> None:
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
        if device == "CPU":
            # from the second call on, its compiler of elementwise operations gives wrong logits (2026.4)
            options["SNIPPETS_MODE"] = "DISABLE"
            if threads:
                options["INFERENCE_NUM_THREADS"] = threads
        core = open_core()
        self._compile = partial(core.compile_model, device_name=device, config=options)
        self._compiled: dict[tuple[tuple[int, ...], ...], Any] = {}
        try:
            self._model = core.read_model(path)
        except RuntimeError as error:
            raise WeightsError(f"{path} cannot be loaded by OpenVINO: {error}") from error
        self._inputs = [x.any_name for x in self._model.inputs]
        self._outputs = [x.any_name for x in self._model.outputs]

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run; inputs that the graph does not have are left out."""
        given = {name: inputs[name] for name in self._inputs}
        shapes = tuple(value.shape for value in given.values())
        if shapes not in self._compiled:
            if len(self._compiled) == KEPT:
                self._compiled.pop(next(iter(self._compiled)))
            model = self._model.clone()
            model.reshape(dict(zip(given, shapes, strict=True)))
            self._compiled[shapes] = self._compile(model)
        found = self._compiled[shapes](given)
        return {name: found[name] for name in self._outputs}


def open_openvino(
    folder: Path, *, policy: str | None = None, device: str = "auto", threads: int = 0
) -> GraphRuntime:
    """Open an exported model, of OpenVINO's format or ONNX.

    Args:
        folder: that `samvideo export-model` wrote.
        policy: another memory policy than the one it was exported with.
        device: auto, which takes the CPU, or a name of OpenVINO's in small letters, such as gpu.
        threads: of the CPU; 0 for one a core.

    Raises:
        ConfigError: OpenVINO is missing or lacks the device, or the policy does not suit the export.
        WeightsError: see `read_manifest`.
    """
    place = _device(device)
    manifest = read_manifest(folder)
    hint = _hint(manifest.precision, place)
    graphs: dict[str, RunsGraph] = {
        name: OpenVinoGraph(folder / file.name, place, "f32" if name == "prompt" else hint, threads)
        for name, file in manifest.graphs.items()
    }
    return runtime_of(manifest, read_constants(folder, manifest), graphs, policy)


def convert(path: Path) -> None:
    """Replace an .onnx file by an .xml file, and a .bin file with its weights, of the same name.

    Raises:
        ConfigError: OpenVINO is missing.
        OSError: the files cannot be written.
    """
    model = open_core().read_model(path)
    with as_os_error(RuntimeError):
        import_openvino().save_model(model, path.with_suffix(".xml"), compress_to_fp16=False)
    del model  # Windows removes no file that is still mapped
    path.unlink()


def _hint(precision: Precision, device: str) -> str:
    """OpenVINO's inference precision, which otherwise depends on the processor.

    Nodes that are float16 or int8 in the file say so themselves; with int8, the others are bfloat16 where there are
    instructions for it.
    """
    native = "BF16" in open_core().get_property(device, "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and not native:
        raise ConfigError(f"{device} has no instructions for bfloat16: export the model with --precision fp32")
    return "bf16" if native and precision in ("bf16", "int8") else "f32"


def import_openvino() -> Any:
    """The package, without the usage data that it sends when it is imported; ConfigError if it is missing."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise ConfigError("OpenVINO is not installed: pip install 'samvideo[openvino]'") from error
    return openvino


def open_core() -> Any:
    """OpenVINO's core, one for the whole process; ConfigError if the package is missing.

    The CPU plug-in of each core has a stack for signal handlers of its own, and brings back the one before when it
    ends: of two cores, the second would leave the stack that the first has freed, and the next Ctrl-C would be a
    segmentation fault (2026.4, processors with AMX).
    """
    return _core(import_openvino())


@cache
def _core(openvino: Any) -> Any:
    return openvino.Core()


def _device(device: str) -> str:
    there = open_core().available_devices
    wanted = "CPU" if device == "auto" else device.upper()
    if wanted not in there:
        known = ", ".join(["auto", *(name.lower() for name in there)])
        raise ConfigError(f"OpenVINO has no device {device!r} here: {known} expected")
    return wanted
