"""Records what the graphs of a model are given while it tracks, to set the ranges of their quantisation by."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from samvideo.deploy.graph_runtime import RunsGraph
from samvideo.deploy.manifest import Manifest, read_constants
from samvideo.deploy.nano_runtime import runtime_of
from samvideo.deploy.onnx_runtime import OnnxGraph
from samvideo.errors import ConfigError
from samvideo.runtime import Runtime

Inputs = Mapping[str, NDArray[Any]]
Tracking = Callable[[Runtime], None]
"""Tracks some frames on a runtime."""


class _Recorder:
    def __init__(self, graph: RunsGraph) -> None:
        self._graph, self.seen = graph, list[Inputs]()

    def __call__(self, inputs: Inputs) -> Inputs:
        self.seen.append(inputs)
        return self._graph(inputs)


def record(folder: Path, manifest: Manifest, track: Tracking) -> dict[str, list[Inputs]]:
    """The inputs of each stage while something is tracked, all of which are held in memory.

    Args:
        folder: of the exported model, in float32.
        manifest: of it.
        track: tracks some ten frames.

    Raises:
        ConfigError: only one frame was tracked.
    """
    graphs: dict[str, _Recorder] = {
        stage: _Recorder(OnnxGraph(folder / file.name, ["CPUExecutionProvider"]))
        for stage, file in manifest.graphs.items()
    }
    track(runtime_of(manifest, read_constants(folder, manifest), graphs))
    if not graphs["track"].seen:
        raise ConfigError("one frame is too little to calibrate with: a video of ten or more expected")
    return {stage: graph.seen for stage, graph in graphs.items()}
