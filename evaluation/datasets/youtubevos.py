"""YouTube-VOS 2018 and 2019 (Xu et al., arXiv 1809.03327): objects that come later, masks on every fifth frame."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from samvideo.evaluation.datasets import base

SPLITS = ("valid", "train", "test")
TREE = """
YouTubeVOS/
├── train/
│   ├── JPEGImages/<video>/00000.jpg 00005.jpg ...
│   ├── Annotations/<video>/00000.png 00005.png ...
│   └── meta.json                                  names the categories that count as seen
└── valid/                                         or these three directly in the folder given
    ├── JPEGImages/<video>/00000.jpg 00005.jpg ... (valid_all_frames/JPEGImages, beside it, is taken if there)
    ├── Annotations/<video>/00000.png ...          where an object first appears
    └── meta.json                                  which objects, and which frames to save for each
"""


class _Object(BaseModel):
    category: str = ""
    frames: list[str] = []


class _Video(BaseModel):
    objects: dict[int, _Object] = {}


class _Meta(BaseModel):
    videos: dict[str, _Video]


_META = TypeAdapter(_Meta)


class YouTubeVOS(base.MaskFolders):
    """An object is prompted where it first appears, and counts on the annotated frames after that."""

    name = "youtubevos"
    archive = "Annotations"
    rule = base.ScoringRule(
        "YouTube-VOS: for each object the annotated frames after the one where it first appears; G is the mean of "
        "J and F over objects of seen and unseen categories (the server's own code is not public)",
        overall="G",
    )

    def __init__(
        self, split: str, images: Path, annotations: Path, meta: dict[str, _Video], seen: set[str] | None
    ) -> None:
        super().__init__(split, images, annotations)
        self._meta, self._seen = meta, seen

    def sequence(self, name: str) -> base.VideoSequence:
        """List the files of one sequence; see `Dataset.sequence`."""
        sequence = super().sequence(name)
        objects = self._meta.get(name, _Video()).objects
        wanted = {frame for entry in objects.values() for frame in entry.frames}
        saved = tuple(k for k, frame in enumerate(sequence.frames) if frame in wanted)
        groups = {}
        if self._seen is not None:
            categories = {number: entry.category for number, entry in objects.items()}
            groups = {k: "seen" if categories.get(k) in self._seen else "unseen" for k in sequence.labels}
        only_first = not any(sequence.scored.values())
        return replace(
            sequence, saved=saved or sequence.saved, groups=groups, scored={} if only_first else sequence.scored
        )

    def scored(self, annotated: list[int], number: int, first: Mapping[int, int]) -> tuple[int, ...]:
        """What comes after the first appearance; nothing where only first appearances are annotated."""
        if set(annotated) <= set(first.values()):
            return ()
        return tuple(index for index in annotated if index > first[number])


def _recognises(root: Path) -> bool:
    if any((root / split / "meta.json").is_file() for split in SPLITS):
        return True
    masks = sorted(root.glob("Annotations/*/*.png"))[:2]
    return [path.stem for path in masks] == ["00000", "00005"]


def _load(root: Path, split: str) -> YouTubeVOS:
    top = base.folder_of_split(root, split)
    all_frames, annotations = root / f"{split}_all_frames" / "JPEGImages", top / "Annotations"
    images = all_frames if all_frames.is_dir() else top / "JPEGImages"
    if not (images.is_dir() and annotations.is_dir()):
        raise base.WrongRoot(top / "JPEGImages", annotations)
    train = root / "train" / "meta.json"
    seen = None
    if train.is_file():
        videos = base.read_json(train, _META).videos.values()
        seen = {entry.category for video in videos for entry in video.objects.values()}
    meta = base.read_json(top / "meta.json", _META).videos if (top / "meta.json").is_file() else {}
    return YouTubeVOS(split, images, annotations, meta, seen)


VARIANTS = {"youtubevos": base.DatasetSpec(SPLITS, TREE, _recognises, _load)}
