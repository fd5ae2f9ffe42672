"""The exported bundled model, see `samvideo.deploy.nano_graphs`: its memory and its windows; no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samvideo.deploy.detail import Detail, sample
from samvideo.deploy.graph_runtime import STRIDE, GraphCandidates, GraphPrediction, GraphRuntime, RunsGraph, cosines
from samvideo.deploy.manifest import Manifest
from samvideo.errors import ConfigError
from samvideo.geometry import cut, prompt_window, resize_rgb, scale_points
from samvideo.picture_sizes import area_wh
from samvideo.runtime import SelectedMemory
from samvideo.types import FloatArray, UInt8Array, image_wh

FIRST_CORNER = 2
"""Label of a box's first corner."""
TARGETS = ("target_16", "target_8")
"""Inputs of `track` for the solutions of the target model."""


@dataclass(frozen=True, eq=False)
class NanoTokens:
    """What a frame left in memory: (rows, C) sums for the target model, and (h, w, C) cells for the affinity."""

    sums: FloatArray
    cells: FloatArray

    def similarity(self, other: "NanoTokens", *, rounded: bool = False) -> float:
        """See `samvideo.runtime.Tokens.similarity`."""
        pairs = (self.sums, other.sums), (self.cells, other.cells)
        return float(sum(cosines(ours, theirs).sum() for ours, theirs in pairs))


class NanoRuntime(GraphRuntime):
    """Runs an exported model with the memory and the windows of the bundled one; frames may have any size."""

    _modules = (__name__, "samvideo.deploy.detail", "samvideo.geometry")

    def _check(self, policy: str) -> None:
        if self.policy.merges_tokens:
            raise ConfigError(
                f"policy {policy!r} merges the tokens of several frames, and those of {self.manifest.model} cannot "
                "be merged: take policy 'diverse'"
            )

    def input_size(self, size_wh: tuple[int, int]) -> tuple[int, int]:
        """See `Runtime.input_size`."""
        return area_wh(size_wh, self.manifest.input_wh, STRIDE)

    def encode(self, rgb: UInt8Array) -> Mapping[str, Any]:
        """See `Runtime.encode`; the frame is kept for windows."""
        return {**self._encoded(rgb, self.input_size(image_wh(rgb))), "frame": rgb}

    def _encoded(self, rgb: UInt8Array, size_wh: tuple[int, int]) -> Mapping[str, NDArray[Any]]:
        return self._graphs["encode"]({"rgb": np.ascontiguousarray(resize_rgb(rgb, size_wh))[None]})

    def prompt(
        self,
        features: Any,
        memory: SelectedMemory,
        xy: FloatArray,
        labels: NDArray[np.int64],
        previous: GraphPrediction | None,
    ) -> GraphCandidates:
        """See `Runtime.prompt`; in a window, which for clicks alone is around a first mask."""
        ambiguous, boxed = len(labels) <= 1, len(labels) > 1 and labels[0] == FIRST_CORNER
        earlier = None
        if previous is not None and (previous.logits > 0).any():
            earlier = self._clamped(previous)
        elif not boxed:
            first = super().prompt(features, memory, xy, labels, None)
            earlier = first.logits[first.published_choice("single")[0]]
        frame: UInt8Array = features["frame"]
        size_wh, grid = image_wh(frame), features["coarse"].shape[-2:]
        xy = scale_points(xy, (STRIDE * grid[1], STRIDE * grid[0]), size_wh)
        window = prompt_window(xy, boxed, None if earlier is None else earlier > 0, size_wh)
        side = self.manifest.window
        assert side is not None
        inner = self._encoded(cut(frame, window), (side, side))
        xy = (xy - (window.x, window.y)) * np.float32(side / window.side)
        if earlier is not None:
            earlier = sample(earlier[None], window.shares(size_wh), (side // 4, side // 4))[0]
        found = self._decode(inner, inner["embedding"], (xy, labels), earlier, ambiguous)
        whole = sample(found.logits, window.shares_of((0, 0, *size_wh)), (4 * grid[0], 4 * grid[1]))
        return replace(found, logits=whole, details=tuple(Detail(row, window) for row in found.logits))

    def _tokens(self, found: Mapping[str, FloatArray]) -> list[Any]:
        return [
            NanoTokens(sums.copy(), cells.copy()) for sums, cells in zip(found["sums"], found["cells"], strict=True)
        ]

    def _attend(self, features: Any, memories: Sequence[SelectedMemory]) -> Mapping[str, FloatArray]:
        read = [self._read(memory) for memory in memories]
        return self._batched("track", {name: np.stack([row[name] for row in read]) for name in read[0]}, features)

    def _read(self, memory: SelectedMemory) -> dict[str, FloatArray]:
        """What `track` reads of one object's memory; see `samvideo.deploy.nano_graphs.NanoTrack`."""
        constants, frames = self._constants, memory.frames
        codes = constants["frame_codes"][[frame.code_row for frame in frames]]
        scales = np.array([frame.key_scale for frame in frames], np.float32)
        codes = np.where(constants["scaled"], codes + np.log(scales)[:, None], codes)
        weights = np.exp(codes[:, 0] - codes[:, 0].max())
        sums = np.tensordot(weights / weights.sum(), np.stack([frame.tokens.sums for frame in frames]), 1)
        read = {"first": frames[0].tokens.cells, "newest": frames[-1].tokens.cells, "codes": codes[[0, -1]]}
        begin, labels = 0, int(constants["labels"])
        for name, width, ridge in zip(TARGETS, constants["widths"], constants["ridges"], strict=True):
            rows = sums[begin : begin + width].astype(np.float64)
            normal = rows[:, :width] + ridge * np.eye(width)
            read[name] = np.linalg.solve(normal, rows[:, width : width + labels]).astype(np.float32)
            begin += width
        return read


def runtime_of(
    manifest: Manifest,
    constants: Mapping[str, NDArray[Any]],
    graphs: Mapping[str, RunsGraph],
    policy: str | None = None,
) -> GraphRuntime:
    """The runtime of an exported video model; arguments and errors as of `GraphRuntime`.

    Raises:
        ConfigError: also of an image model.
    """
    if manifest.image is not None:
        raise ConfigError(f"{manifest.model} segments images and cannot track: export a video model")
    kind = GraphRuntime if manifest.window is None else NanoRuntime
    return kind(manifest, constants, graphs, policy)
