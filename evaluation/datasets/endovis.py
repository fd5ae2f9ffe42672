"""EndoVis 2017 and 2018 instruments (Allan et al., arXiv 1902.06426 and 2001.11190), two ways to lay them out."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field, TypeAdapter

from samvideo.errors import DatasetError
from samvideo.evaluation.datasets import base
from samvideo.evaluation.files import AS_STORED, MaskSet, read_binary_png, read_colours, read_index_png
from samvideo.types import BoolArray, UInt8Array

LABELS = ("binary", "parts", "type")
"""What an object is: all instruments together, a part of them, or a class of instruments."""
SPLITS = ("valid", "train", "test", *(f"{s}-{label}" for s in ("valid", "train", "test") for label in LABELS))
PARTS = {"shaft": 10, "wrist": 20, "clasper": 30, "probe": 40}
"""Values of the masks of 2017 (its mappings.json); 2018 names the same parts in labels.json."""
TREE = """
Splits end in -binary, -parts or -type where an object is to be all instruments, a part, or a class of them.
VOS-Endovis18/                                     as Surgical SAM 2 lays it out (VOS-Endovis17 alike)
└── valid/                                         or these two directly in the folder given
    ├── JPEGImages/<sequence>/00000.jpg ...
    └── Annotations/<sequence>/00000.png ...       instrument class per pixel
or the challenge of 2017:
instrument_dataset_1/
├── left_frames/frame000.png ...
└── ground_truth/<Left_Prograsp_Forceps>_labels/frame000.png ...
or of 2018:
seq_1/
├── left_frames/frame000.png ...
└── labels/frame000.png ...                        colours, named in labels.json beside seq_1 (or in it)
"""


class _Colour(BaseModel):
    name: str
    color: Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=3, max_length=3)]


_COLOURS = TypeAdapter(list[_Colour])


class EndoVis(base.MaskFolders):
    """VOS folders: an object is an instrument class, prompted where it first appears; or all of them are one."""

    name = "endovis"
    rule = base.ScoringRule(
        "EndoVis: annotated frames but the first and the last, an object from when it was first seen, as Surgical "
        "SAM 2; challenge IoU, class IoU and mean class IoU over the same frames, as ISINet",
        until_seen=True,
        by_class=True,
    )

    @property
    def labelling(self) -> str:
        """What an object is, one of `LABELS`; empty for the annotation's own objects."""
        return self.split.partition("-")[2]

    def read(self, path: Path) -> MaskSet:
        """A ground truth file; any instrument is object 1 where they are all one."""
        if self.labelling == "binary":
            return MaskSet(index=read_binary_png(path, self.reading, joined=True).astype(np.uint8))
        return super().read(path)


class EndoVisChallenge(EndoVis):
    """The challenge's own folders: a file per instrument (2017), or colours that name the parts (2018).

    Without a labelling an object is one instrument (2017, its class without left and right), or all (2018).
    """

    apart = True

    def __init__(self, split: str, root: Path) -> None:
        names = [name for name in base.subfolders(root) if (root / name / "left_frames").is_dir()]
        super().__init__(split, None, root, names)

    def sequence(self, name: str) -> base.VideoSequence:
        """List the files of one sequence; see `Dataset.sequence`."""
        folder = self.annotations / name
        images = base.list_files(folder / "left_frames", base.IMAGE_SUFFIXES)
        frames = tuple(images)
        instruments = _instruments(folder)
        paths = folder / "ground_truth" / f"{instruments[0]}_labels" if instruments else folder / "labels"
        labels = dict(enumerate(self._labels_2017(instruments) if instruments else self._labels_2018(folder), 1))
        masks = base.match(frames, base.list_files(paths, (".png",)), paths, every=True)
        whole = base.VideoSequence(
            name, frames, tuple(images.values()), masks, labels, {}, {}, tuple(range(len(frames)))
        )
        first = base.appearances((index, self.truth(whole, index)) for index in sorted(masks))
        return replace(
            whole,
            labels={number: labels[number] for number in first},
            first_seen=first,
            scored=dict.fromkeys(first, tuple(sorted(masks))[1:-1]),
            groups={number: _class_of(labels[number]) for number in first},
        )

    def _labels_2017(self, instruments: list[str]) -> list[str]:
        types = list(dict.fromkeys(_class_of(instrument) for instrument in instruments))
        return {"": instruments, "binary": ["instrument"], "parts": list(PARTS), "type": types}[self.labelling]

    def _labels_2018(self, folder: Path) -> list[str]:
        if self.labelling == "type":
            raise DatasetError(
                f"{folder / 'labels'} names the parts of instruments, not their classes: take "
                f"{self.split[:-5]}-parts or -binary, or the classes that ISINet published, in VOS folders"
            )
        return list(_colours(folder)) if self.labelling == "parts" else ["instrument"]

    def truth(self, sequence: base.VideoSequence, index: int) -> MaskSet:
        """A mask per object, as the split's labelling has it."""
        path = sequence.masks[index]
        if path.parent.name == "labels":
            return MaskSet(apart=self._coloured(path, sequence.labels))
        top = path.parents[1]
        values = {k: read_index_png(top / f"{k}_labels" / path.name, AS_STORED) for k in _instruments(top.parent)}
        return MaskSet(apart={number: self._chosen(values, label) for number, label in sequence.labels.items()})

    def truth_files(self, sequence: base.VideoSequence, index: int) -> tuple[Path, ...]:
        """The masks of all instruments, or the coloured mask with its table of colours."""
        path = sequence.masks[index]
        top = path.parents[1]
        if path.parent.name == "labels":
            return path, _table(top)
        return tuple(top / f"{name}_labels" / path.name for name in _instruments(top.parent))

    def _chosen(self, values: Mapping[str, UInt8Array], label: str) -> BoolArray:
        """The mask of one object from the files of all instruments."""
        if self.labelling == "parts":
            return np.any([mask == PARTS[label] for mask in values.values()], 0)
        of = {"": lambda name: name, "binary": lambda name: "instrument", "type": _class_of}[self.labelling]
        return np.any([mask > 0 for name, mask in values.items() if of(name) == label], 0)

    def _coloured(self, path: Path, labels: Mapping[int, str]) -> dict[int, BoolArray]:
        colours = _colours(path.parents[1])
        rgb = read_colours(path)
        masks: dict[str, BoolArray] = {part: (rgb == colour).all(2) for part, colour in colours.items()}
        whole: BoolArray = np.any(list(masks.values()), 0)
        return {number: masks.get(label, whole) for number, label in labels.items()}


def _instruments(folder: Path) -> list[str]:
    """Instruments of a sequence of 2017; each has a folder of masks."""
    parts = base.subfolders(folder / "ground_truth")
    return [part.removesuffix("_labels") for part in parts if part.endswith("_labels")]


def _class_of(instrument: str) -> str:
    """The class of an instrument, without the side it is on."""
    return instrument.removeprefix("Left_").removeprefix("Right_")


def _colours(folder: Path) -> dict[str, list[int]]:
    """Part -> its colour in the masks of a sequence of 2018; DatasetError if the table is missing or broken."""
    prefix = "instrument-"
    named = {entry.name: entry.color for entry in base.read_json(_table(folder), _COLOURS)}
    return {name.removeprefix(prefix): colour for name, colour in named.items() if name.startswith(prefix)}


def _table(folder: Path) -> Path:
    """The file that names the colours of a sequence of 2018; DatasetError if it is missing."""
    places = (folder / "labels.json", folder.parent / "labels.json")
    for file in places:
        if file.exists():
            return file
    raise DatasetError(f"{places[1]} is missing: it names the colours; restore it")


def _recognises(root: Path) -> bool:
    named = "endovis" in root.name.lower() and any((root / top / "JPEGImages").is_dir() for top in (".", *SPLITS))
    return named or any(root.glob("*/left_frames"))


def _load(root: Path, split: str) -> EndoVis:
    if any(root.glob("*/left_frames")):
        return EndoVisChallenge(split, root)  # has no splits
    part, _, labelling = split.partition("-")
    top = base.folder_of_split(root, part)
    images, annotations = base.image_and_mask_folders(top, others=[root / "*/left_frames"])
    if labelling == "parts":
        raise DatasetError(
            f"{annotations} has the class of the instrument per pixel, not its parts: take {part}-type"
        )
    return EndoVis(split, images, annotations)


VARIANTS = {"endovis": base.DatasetSpec(SPLITS, TREE, _recognises, _load)}
