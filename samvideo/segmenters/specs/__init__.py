"""What is known of each segmenter before it is imported: one file per family, found by listing this folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from samvideo.registry import Registry
from samvideo.segmenters.base import Chooser, Segmenter, by_quality
from samvideo.weights.transfer import Progress


@dataclass(frozen=True)
class SegmenterOptions:
    """What a user may choose beside the name of a segmenter.

    Attributes:
        weights: a file to read the model from, several separated by commas, their folder, or "random".
        memory: of a video model, the memory method that the weights have; None for the model's own.
        device: auto, cpu, cuda or mps.
        dtype: auto, fp32, bf16 or fp16.
        choose: chooses among the candidates of an object.
        progress: called during a download.
    """

    weights: Path | None = None
    memory: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    choose: Chooser = by_quality
    progress: Progress | None = None


@dataclass(frozen=True)
class SegmenterFacts:
    """A row of `samvideo models`; the fields are its columns."""

    encoder: str = "-"
    parameters: str = "-"
    input: str = "any"
    licence: str = "Apache-2.0"
    cached: str = "built in"


@dataclass(frozen=True)
class SegmenterSpec:
    """One segmenter.

    Attributes:
        name: what users call it.
        build: makes the segmenter; heavy libraries are imported inside it.
        description: one line.
        needs_weights: whether weights must be downloaded, or given as a file.
        takes_weights: whether weights can be given.
        devices: types of devices that it can use.
        facts: makes its row of `samvideo models`.
    """

    name: str
    build: Callable[[SegmenterOptions], Segmenter]
    description: str
    needs_weights: bool = False
    takes_weights: bool = False
    devices: tuple[str, ...] = ("cpu",)
    facts: Callable[[], SegmenterFacts] = SegmenterFacts


SEGMENTERS = Registry("segmenter", "samvideo.segmenters.specs", "samvideo.segmenters", SegmenterSpec)
