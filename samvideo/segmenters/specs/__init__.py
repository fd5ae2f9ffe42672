"""What is known of each segmenter before it is imported: one file per family, found by listing this folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from samvideo.registry import Registry
from samvideo.segmenters.base import Chooser, Segmenter, by_quality
from samvideo.weights.transfer import Progress

Options = TypeVar("Options", bound="ModelOptions")
Built = TypeVar("Built")


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """What a user may choose beside the name of a model; None leaves the choice to the model.

    Attributes:
        weights: a file to read the model from, several separated by commas, their folder, or "random".
        memory: of a video model, the memory method, which the weights must have.
        device: auto, cpu, cuda or mps.
        dtype: auto, fp32, bf16 or fp16.
        progress: called during a download.
    """

    weights: Path | None = None
    memory: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    progress: Progress | None = None


@dataclass(frozen=True, kw_only=True)
class SegmenterOptions(ModelOptions):
    """The options of a segmenter.

    Attributes:
        choose: chooses among the candidates of an object.
    """

    choose: Chooser = by_quality


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
class SelectableModel(Generic[Options, Built]):
    """A segmenter or tracker.

    Attributes:
        name: what users call it.
        build: makes it; heavy libraries are imported inside.
        description: one line.
        needs_weights: whether weights must be downloaded, or given as a file.
        devices: types of devices that it can use.
        facts: makes its row of `samvideo models`.
    """

    name: str
    build: Callable[[Options], Built]
    description: str
    needs_weights: bool = False
    devices: tuple[str, ...] = ("cpu",)
    facts: Callable[[], ModelFacts] = ModelFacts


@dataclass(frozen=True)
class SegmenterSpec(SelectableModel[SegmenterOptions, Segmenter]):
    """One segmenter; `takes_weights` says whether weights can be given."""

    takes_weights: bool = False


SEGMENTERS = Registry("segmenter", "samvideo.segmenters.specs", "samvideo.segmenters", SegmenterSpec)
