"""Records what the graphs of a model are given while it tracks, to set the ranges of their quantisation by."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from samvideo.deploy.graph_runtime import RunsGraph
from samvideo.deploy.manifest import Manifest, read_constants
from samvideo.deploy.nano_runtime import runtime_of
from samvideo.deploy.onnx_runtime import OnnxGraph
from samvideo.errors import ConfigError
from samvideo.trackers.sam import SamTracker
from samvideo.types import Box, Frame

Inputs = Mapping[str, NDArray[Any]]


class _Recorder:
    def __init__(self, graph: RunsGraph) -> None:
        self._graph, self.seen = graph, list[Inputs]()

    def __call__(self, inputs: Inputs) -> Inputs:
        self.seen.append(inputs)
        return self._graph(inputs)


def record(folder: Path, manifest: Manifest, frames: Iterable[Frame]) -> dict[str, list[Inputs]]:
    """The inputs of each stage while the middle of the first frame is tracked.

    Args:
        folder: of the exported model, in float32.
        manifest: of it.
        frames: of one video, some ten: the inputs of all are held in memory.

    Raises:
        ConfigError: there are fewer than two.
    """
    graphs: dict[str, _Recorder] = {
        stage: _Recorder(OnnxGraph(folder / file.name, ["CPUExecutionProvider"]))
        for stage, file in manifest.graphs.items()
    }
    tracker = SamTracker(runtime_of(manifest, read_constants(folder, manifest), graphs))
    for count, frame in enumerate(frames):
        height, width = frame.rgb.shape[:2]
        box = Box((width / 4, height / 4, width * 3 / 4, height * 3 / 4), object_id=1)
        tracker.step(frame, [] if count else [box])
    if not graphs["track"].seen:
        raise ConfigError("one frame is too little to calibrate with: a video of ten or more expected")
    return {stage: graph.seen for stage, graph in graphs.items()}
