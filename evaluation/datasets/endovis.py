"""EndoVis 2017 and 2018 instruments (Allan et al., arXiv 1902.06426 and 2001.11190), two ways to lay them out."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from samvideo.errors import DatasetError
from samvideo.evaluation.datasets.base import (
    IMAGE_SUFFIXES,
    Clip,
    MaskFolders,
    first_existing,
    match,
    pictures,
    subfolders,
    without_ends,
    wrong_root,
)
from samvideo.evaluation.files import MaskSet, read_index_png
from samvideo.types import BoolArray

NAME = "endovis"
SPLITS = ("valid", "train", "test")
TREE = """
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


def recognises(root: Path) -> bool:
    """Whether a folder looks like this data set."""
    named = "endovis" in root.name.lower() and any((root / top / "JPEGImages").is_dir() for top in (".", *SPLITS))
    return named or any(root.glob("*/left_frames"))


class EndoVis(MaskFolders):
    """VOS folders: an object is an instrument class, prompted where it first appears."""

    name = NAME
    every_frame = False
    until_seen = True
    instruments = True
    rule = (
        "EndoVis: annotated frames but the first and the last, an object from when it was first seen, as Surgical "
        "SAM 2; challenge IoU, class IoU and mean class IoU over the same frames, as ISINet"
    )


class EndoVisChallenge(EndoVis):
    """The challenge's own folders: a file per instrument (2017), or colours, all instruments one object (2018)."""

    apart = True

    def __init__(self, split: str, root: Path) -> None:
        super().__init__(
            split, None, root, [name for name in subfolders(root) if (root / name / "left_frames").is_dir()]
        )

    def clip(self, name: str) -> Clip:
        """Look at one sequence's files; see `Dataset.clip`."""
        folder = self.annotations / name
        images = pictures(folder / "left_frames", IMAGE_SUFFIXES)
        frames = tuple(images)
        instruments = [part for part in subfolders(folder / "ground_truth") if part.endswith("_labels")]
        if instruments:
            labels = {number: part.removesuffix("_labels") for number, part in enumerate(instruments, 1)}
            paths = folder / "ground_truth" / instruments[0]
        else:
            labels, paths = {1: "instrument"}, folder / "labels"
        masks = match(frames, pictures(paths, (".png",)), paths, every=True)
        empty = Clip(name, frames, tuple(images.values()), masks, labels, {}, {}, tuple(range(len(frames))))
        first = self._appearances(empty)
        labels = {number: label for number, label in labels.items() if number in first}
        classes = {k: label.removeprefix("Left_").removeprefix("Right_") for k, label in labels.items()}
        scored = dict.fromkeys(labels, without_ends(sorted(masks)))
        return replace(empty, labels=labels, first_seen=first, scored=scored, groups=classes)

    def _appearances(self, clip: Clip) -> dict[int, int]:
        first: dict[int, int] = {}
        for index in sorted(clip.masks):
            for number in self.truth(clip, index).numbers:
                first.setdefault(number, index)
        return dict(sorted(first.items()))

    def truth(self, clip: Clip, index: int) -> MaskSet:
        """A mask per instrument (2017) or the one of all instruments (2018)."""
        path = clip.masks[index]
        if path.parent.name == "labels":
            return MaskSet(apart={1: self._coloured(path)})
        folders = {number: path.parents[1] / f"{label}_labels" for number, label in clip.labels.items()}
        return MaskSet(apart={k: read_index_png(folder / path.name) > 0 for k, folder in folders.items()})

    def _coloured(self, path: Path) -> BoolArray:
        table = next(
            (file for file in (path.parents[1] / "labels.json", path.parents[2] / "labels.json") if file.exists()),
            None,
        )
        if table is None:
            raise DatasetError(f"{path.parents[2] / 'labels.json'} is missing: it names the colours; restore it")
        try:
            entries = json.loads(table.read_text())
            colours = [entry["color"] for entry in entries if entry["name"].startswith("instrument")]
            with Image.open(path) as image:
                rgb = np.asarray(image.convert("RGB"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DatasetError(
                f"{path} or {table} cannot be read ({error}): restore them from the archive"
            ) from error
        mask: BoolArray = np.any([(rgb == colour).all(2) for colour in colours], 0)
        return mask

    def objects(self, name: str, masks: Mapping[int, Path]) -> dict[int, int]:
        """Where each instrument first appears."""
        return dict(self.clip(name).first_seen)


def open(root: Path, split: str) -> EndoVis:
    """Open one split, or a folder that is one; the challenge's folders have no splits.

    Raises:
        DatasetError: not this data set's folders.
    """
    if any(root.glob("*/left_frames")):
        return EndoVisChallenge(split, root)
    top = root / split if (root / split).is_dir() else root
    images, annotations = first_existing(top, "JPEGImages"), first_existing(top, "Annotations")
    if images is None or annotations is None:
        raise wrong_root(NAME, root, [top / "JPEGImages", top / "Annotations", root / "*/left_frames"], TREE)
    return EndoVis(split, images, annotations, subfolders(annotations))
