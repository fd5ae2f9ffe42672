"""SA-V (Ravi et al., arXiv 2408.00714): objects may overlap; images (val, test) or video (train)."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, StrictInt, TypeAdapter

from samvideo.errors import ConfigError, DatasetError
from samvideo.evaluation.datasets import base
from samvideo.evaluation.files import MaskSet, read_binary_png
from samvideo.io.masks import decode_rle
from samvideo.types import BoolArray

FRAMES_PER_MASK = 4  # videos have 24 frames a second, masks 6
TREE = """
SA-V/
├── sav_val/                                       (sav_test; or one of them is the folder given)
│   ├── sav_val.txt
│   ├── JPEGImages_24fps/<video>/00000.jpg 00001.jpg ...
│   └── Annotations_6fps/<video>/<object 000>/00000.png 00004.png ...
└── sav_train/                                     in any folders below
    ├── sav_000001.mp4
    └── sav_000001_manual.json                     (split train-auto: sav_000001_auto.json)
"""


Side = Annotated[int, Field(ge=1, le=16384)]


class _Rle(BaseModel):
    size: tuple[Side, Side]
    counts: str | list[int]


class _Masklets(BaseModel):
    video_frame_count: Annotated[int, Field(ge=1, le=1_000_000)]
    masklet: Annotated[list[list[_Rle]], Field(min_length=1)]  # by annotated frame and masklet
    masklet_id: Annotated[list[Annotated[StrictInt, Field(ge=0)]], Field(min_length=1)]


_MASKLETS = TypeAdapter(_Masklets)


class SavImages(base.Dataset):
    """Val and test. The first and the last annotated frame do not count, nor those before an object appears."""

    name = "sav"
    apart = True
    rule = base.ScoringRule(
        "SA-V: for each object the annotated (6 per second) frames but the first and the last, once it was seen",
        until_seen=True,
    )

    def __init__(self, split: str, images: Path, annotations: Path, names: list[str]) -> None:
        super().__init__(split, names)
        self._images, self._annotations = images, annotations
        if split == "test":
            self.archive = ""

    def sequence(self, name: str) -> base.VideoSequence:
        """List the files of one sequence; see `Dataset.sequence`."""
        images = base.list_files(self._images / name, base.IMAGE_SUFFIXES)
        frames, folder = tuple(images), self._annotations / name
        labels = {int(label) + 1: label for label in base.subfolders(folder) if label.isdecimal()}
        if not labels:
            raise DatasetError(f"{folder} holds no folder per object (000, 001, ...): restore it from the archive")
        masks: dict[int, Path] = {}
        first, scored = {}, {}
        for number, label in labels.items():
            own = base.match(frames, base.list_files(folder / label, (".png",)), folder / label, every=False)
            seen = next((index for index in sorted(own) if read_binary_png(own[index], self.reading).any()), None)
            if seen is None:
                raise DatasetError(f"{folder / label} has no mask that is not empty: restore it from the archive")
            first[number], scored[number] = seen, tuple(sorted(own))[1:-1]
            masks |= {index: folder / path.name for index, path in own.items()}
        secret = len(masks) == 1
        return base.VideoSequence(
            name, frames, tuple(images.values()), masks, labels, first, {} if secret else scored, tuple(masks)
        )

    def truth(self, sequence: base.VideoSequence, index: int) -> MaskSet:
        """One mask per object that is annotated there."""
        path = sequence.masks[index]
        files = {number: path.parent / label / path.name for number, label in sequence.labels.items()}
        return MaskSet(
            apart={number: read_binary_png(file, self.reading) for number, file in files.items() if file.exists()}
        )

    def truth_files(self, sequence: base.VideoSequence, index: int) -> tuple[Path, ...]:
        """One file per object that is annotated there."""
        path = sequence.masks[index]
        files = (path.parent / label / path.name for label in sequence.labels.values())
        return tuple(file for file in files if file.exists())


class SavVideos(base.Dataset):
    """Train: an mp4 beside the run lengths of every fourth frame."""

    name = "sav"
    apart = True
    rule = SavImages.rule

    def __init__(self, split: str, files: Mapping[str, Path]) -> None:
        super().__init__(split, files)
        self._files = files
        self._masklets = lru_cache(maxsize=2)(lambda path: base.read_json(path, _MASKLETS))

    def sequence(self, name: str) -> base.VideoSequence:
        """List the files of one sequence; see `Dataset.sequence`. The video is only needed to run a model."""
        path = self._files[name]
        content = self._masklets(path)
        masklets, count = content.masklet, content.video_frame_count
        labels = {position + 1: str(number) for position, number in enumerate(content.masklet_id)}
        if len(set(labels.values())) < len(labels) or len({rle.size for entry in masklets for rle in entry}) > 1:
            raise DatasetError(
                f"{path} has two masklets of one masklet_id, or masks of two sizes: restore it from the archive"
            )
        frames = tuple(f"{index:05d}" for index in range(count))
        masks = {index * FRAMES_PER_MASK: path for index in range(len(masklets))}
        if max(masks, default=0) >= count or any(len(entry) != len(labels) for entry in masklets):
            raise DatasetError(
                f"{path} has {len(masklets)} annotated frames for {count} frames and {len(labels)} masklets: every "
                "fourth frame with one entry per masklet expected; restore it from the archive"
            )
        # The stated first frame counts in video frames and may lie between two annotated ones: look for the mask.
        first = {number: self._first_mask(masklets, number - 1, path) for number in labels}
        scored = dict.fromkeys(labels, tuple(sorted(masks))[1:-1])
        return base.VideoSequence(
            name, frames, (), masks, labels, first, scored, tuple(masks), video=path.with_name(f"{name}.mp4")
        )

    def _first_mask(self, masklets: list[list[_Rle]], column: int, path: Path) -> int:
        for index, entry in enumerate(masklets):
            if _decode(entry[column], path, index * FRAMES_PER_MASK).any():
                return index * FRAMES_PER_MASK
        raise DatasetError(f"{path}: masklet {column} is empty throughout; restore the file from the archive")

    def truth(self, sequence: base.VideoSequence, index: int) -> MaskSet:
        """The masklets of one annotated frame."""
        path = sequence.masks[index]
        entry = self._masklets(path).masklet[index // FRAMES_PER_MASK]
        return MaskSet(apart={number: _decode(entry[number - 1], path, index) for number in sequence.labels})


def _decode(rle: _Rle, path: Path, index: int) -> BoolArray:
    try:
        return decode_rle(rle.model_dump())
    except (ConfigError, OverflowError) as error:
        raise DatasetError(f"{path}, frame {index}: {error}; restore it from the archive") from error


def _recognises(root: Path) -> bool:
    val = any((root / top / "JPEGImages_24fps").is_dir() for top in (".", "sav_val", "sav_test"))
    return val or any(root.rglob("sav_*_manual.json"))


def _load(root: Path, split: str) -> base.Dataset:
    if split.startswith("train"):
        ending = "_auto.json" if split == "train-auto" else "_manual.json"
        found = sorted(root.rglob(f"sav_*{ending}"))
        if not found:
            raise base.WrongRoot(root / f"sav_train/**/sav_*{ending}")
        files = {path.name.removesuffix(ending): path for path in found}
        if len(files) < len(found):
            raise DatasetError(
                f"{root} holds {len(found) - len(files)} *{ending} twice: one file of each name expected"
            )
        return SavVideos(split, files)
    top = base.folder_of_split(root, f"sav_{split}")
    images, annotations, listed = top / "JPEGImages_24fps", top / "Annotations_6fps", top / f"sav_{split}.txt"
    if not (images.is_dir() and annotations.is_dir()):
        raise base.WrongRoot(images, annotations)
    names = base.read_list(listed) if listed.exists() else base.subfolders(annotations)
    return SavImages(split, images, annotations, names)


SPLITS = ("val", "test", "train", "train-auto")
VARIANTS = {"sav": base.DatasetSpec(SPLITS, TREE, _recognises, _load)}
