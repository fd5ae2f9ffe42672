"""LVOS v1 and v2 (Hong et al., ICCV 2023 and arXiv 2404.19326): minutes long; objects come and go."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from samvideo.errors import DatasetError
from samvideo.evaluation.datasets import base

STEP = 5  # of the published evaluation: frame numbers count by five
TREE = """
LVOS/
└── valid/                                         or val/, or these directly in the folder given
    ├── JPEGImages/<video>/00000001.jpg 00000006.jpg ...
    ├── Annotations/<video>/00000001.png ...
    └── meta.json                                  (valid_meta.json) the frames that each object is in
"""


class _Range(BaseModel):
    start: int  # the files have numbers as text, too
    end: int


class _Object(BaseModel):
    frame_range: _Range


class _Video(BaseModel):
    objects: dict[int, _Object] = {}


class _Meta(BaseModel):
    videos: dict[str, _Video]


_META = TypeAdapter(_Meta)


class Lvos(base.MaskFolders):
    """An object counts on every fifth frame of the range its meta.json entry gives, its first frame included."""

    name = "lvos"
    rule = base.ScoringRule(
        "LVOS: for each object every fifth frame of its range in meta.json, as the published evaluation; without "
        "meta.json the annotated frames after the one where it first appears"
    )

    def __init__(self, split: str, images: Path, annotations: Path, meta: dict[str, _Video]) -> None:
        super().__init__(split, images, annotations)
        self._meta = meta

    def sequence(self, name: str) -> base.VideoSequence:
        """List the files of one sequence; see `Dataset.sequence`."""
        sequence = super().sequence(name)
        objects = self._meta.get(name, _Video()).objects
        if not sequence.scored or not objects:
            return sequence
        if strange := [frame for frame in sequence.frames if not frame.isdecimal()]:
            raise DatasetError(
                f"{name} has a picture {strange[0]!r}: names of pictures must be numbers, as in meta.json"
            )
        numbers = {index: int(frame) for index, frame in enumerate(sequence.frames)}
        scored = {}
        for number in sequence.labels:
            extent = objects[number].frame_range if number in objects else _Range(start=0, end=0)
            counted = range(extent.start, extent.end, STEP)
            scored[number] = tuple(index for index in sorted(sequence.masks) if numbers[index] in counted)
        return replace(sequence, scored=scored)

    def scored(self, annotated: list[int], number: int, first: Mapping[int, int]) -> tuple[int, ...]:
        """What comes after the first appearance."""
        return tuple(index for index in annotated if index > first[number])


def _recognises(root: Path) -> bool:
    return any(any(root.glob(f"{top}JPEGImages/*/00000001.jpg")) for top in ("", "*/"))


def _load(root: Path, split: str) -> Lvos:
    top = base.folder_of_split(root, split)
    images, annotations = base.image_and_mask_folders(top)
    meta = next((path for name in ("meta.json", f"{split}_meta.json") if (path := top / name).is_file()), None)
    return Lvos(split, images, annotations, base.read_json(meta, _META).videos if meta else {})


VARIANTS = {"lvos": base.DatasetSpec(("valid", "train", "test", "val"), TREE, _recognises, _load)}
