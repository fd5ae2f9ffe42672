"""What is known of each tracker before it is imported: one file per family, found by listing this folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from samvideo.registry import Registry
from samvideo.trackers.base import Tracker
from samvideo.weights.transfer import Progress


@dataclass(frozen=True)
class TrackerOptions:
    """What a user may choose beside the name of a tracker; None leaves the choice to the tracker.

    Attributes:
        weights: a file to read the model from, or "random".
        memory, policy: names of another memory method and policy than the model's own.
        device: auto, cpu, cuda or mps.
        dtype: auto, fp32, bf16 or fp16.
        progress: called during a download.
    """

    weights: Path | None = None
    memory: str | None = None
    policy: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    progress: Progress | None = None


@dataclass(frozen=True)
class ModelFacts:
    """A row of `samvideo models`; the fields are its columns."""

    encoder: str = "-"
    memory: str = "-"
    policy: str = "-"
    parameters: str = "-"
    input: str = "any"
    licence: str = "-"
    cached: str = "built in"


@dataclass(frozen=True)
class TrackerSpec:
    """One tracker.

    Attributes:
        name: what users call it.
        build: makes the tracker; heavy libraries are imported inside it.
        description: one line.
        needs_weights: whether weights must be downloaded, or given as a file.
        devices: types of devices that it can use.
        options: which of `weights`, `memory` and `policy` it takes.
        facts: makes its row of `samvideo models`.
        segmenter: name of the segmenter that previews its first masks, with the same options.
    """

    name: str
    build: Callable[[TrackerOptions], Tracker]
    description: str
    needs_weights: bool = False
    devices: tuple[str, ...] = ("cpu",)
    options: frozenset[str] = frozenset()
    facts: Callable[[], ModelFacts] = ModelFacts
    segmenter: str = "grabcut"


TRACKERS = Registry("model", "samvideo.trackers.specs", "samvideo.trackers", TrackerSpec)
