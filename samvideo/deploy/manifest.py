"""What an exported model consists of: the file `manifest.json` beside its graphs; no torch."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, PositiveInt, TypeAdapter, with_config

from samvideo.errors import WeightsError
from samvideo.io.paths import inside
from samvideo.io.schema import read_json
from samvideo.specs import Answer, PictureRule

MANIFEST = "manifest.json"
CONSTANTS = "constants.npz"
Stage: TypeAlias = Literal["encode", "prompt", "track", "remember"]
STAGES: tuple[Stage, ...] = get_args(Stage)
GraphFormat: TypeAlias = Literal["onnx", "openvino"]
Precision: TypeAlias = Literal["fp32", "fp16", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class File:
    """A file of an export; `name` is relative to its folder."""

    name: str
    sha256: str


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class ImageFacts:
    """What the host does for an exported image model.

    Attributes:
        picture, answer, mean, std: as in `ModelSpec`.
        padded: whether prompts without a box get a point that says nothing.
        points: exactly so many are given; None for any number.
    """

    picture: PictureRule
    answer: Answer
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    padded: bool
    points: PositiveInt | None


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class Manifest:
    """An exported model.

    Attributes:
        format: of the folder.
        samvideo: version that exported it.
        model: name.
        policy: memory policy, see `samvideo.policies.parse_policy`.
        input_wh: size of the pictures that are encoded, in pixels.
        answer, tracking: as in `ModelSpec`.
        capacity: the most frames and pointers of a memory.
        pointer_span: that the ages of pointers are divided by.
        presence_threshold: object score logit above which the policy takes an object as visible.
        objects: that `track` and `remember` take at a time; None for any number.
        graphs: files of the stages.
        constants: arrays that no graph holds.
        spec: what was exported, for people.
        window: as in `ModelSpec`.
        image: of image models, which have no `track` and `remember`, and no policy; None of video models.
        graph_format: of the files in `graphs`.
        precision: that the graphs are computed in; inputs and outputs are float32 always.
        weights: of graphs in OpenVINO's format, which have them in a file of their own.
    """

    format: Literal["samvideo-graphs-1"]
    samvideo: str
    model: str
    policy: str
    input_wh: tuple[PositiveInt, PositiveInt]
    answer: Answer
    tracking: Literal["alternatives", "single"]
    capacity: tuple[PositiveInt, int]
    objects: PositiveInt | None
    graphs: dict[Stage, File]
    constants: File
    spec: dict[str, Any]
    window: PositiveInt | None = None
    image: ImageFacts | None = None
    pointer_span: float = 1.0
    presence_threshold: float = 0.0
    graph_format: GraphFormat = "onnx"
    precision: Precision = "fp32"
    weights: dict[Stage, File] = field(default_factory=dict)


SCHEMA = TypeAdapter(Manifest)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an exported model.

    Raises:
        WeightsError: there is none, it is malformed, or a file is missing or is not the one that was exported.
    """
    expected = "the folder that `samvideo export-model` wrote"
    manifest = read_json(folder / MANIFEST, SCHEMA, expected, WeightsError)
    wanted = STAGES if manifest.image is None else STAGES[:2]
    if missing := set(wanted).difference(manifest.graphs):
        raise WeightsError(f"{folder / MANIFEST} lists no graph {sorted(missing)}; {expected} expected")
    for file in (*manifest.graphs.values(), *manifest.weights.values(), manifest.constants):
        path = inside(folder, file.name, f"a file of {folder / MANIFEST}", WeightsError)
        if not path.is_file():
            raise WeightsError(f"{path} is missing: export the model again")
        if file_of(path).sha256 != file.sha256:
            raise WeightsError(f"{path} is damaged or was changed: its checksum is not that of {MANIFEST}")
    return manifest


def graph_path(folder: Path, name: str, suffix: str = "onnx") -> Path:
    """Where an export has the graph of a stage, or its weights."""
    return folder / f"{name}.{suffix}"


def read_constants(folder: Path, manifest: Manifest) -> dict[str, NDArray[Any]]:
    """The arrays that no graph holds, by name."""
    with np.load(folder / manifest.constants.name, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def file_of(path: Path) -> File:
    """A file's entry in the manifest beside it."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return File(path.name, digest.hexdigest())
