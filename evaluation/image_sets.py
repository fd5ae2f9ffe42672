"""Data sets of still images with masks of their objects: folders of masks, first frames of videos, COCO."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from samvideo.errors import ConfigError, DatasetError, VideoError
from samvideo.evaluation.datasets.base import check_names, list_files, read_list, subfolders
from samvideo.io.images import SUFFIXES, read_rgb
from samvideo.io.mask_pictures import FROM_FILE, MaskRule
from samvideo.io.masks import read_mask_objects
from samvideo.io.paths import inside
from samvideo.types import BoolArray, UInt8Array

ALL = "all"
"""The split of a data set that has none."""
TREE = """
ROOT/<any folders>/images/NAME.jpg, masks/NAME.png        object numbers per pixel
ROOT/JPEGImages/[480p/]<sequence>/, Annotations/...       a video data set: first annotated frames
ROOT/annotations/instances_<split>.json, <split>/NAME.jpg COCO, or the JSON file itself
"""


@dataclass(frozen=True)
class Picture:
    """One image of a data set.

    Attributes:
        group: the set that it belongs to.
        path: its file.
    """

    group: str
    path: Path


class ImageSet(ABC):
    """Images with masks of their objects.

    Attributes:
        description: what it holds, in a few words; printed in every result.
        name, split: for the record.
        pictures: by name, which is the path below the folder of the data set; in order.
    """

    description: str

    def __init__(self, name: str, split: str, pictures: Mapping[str, Picture]) -> None:
        self.name, self.split, self.pictures = name, split, dict(pictures)

    def read(self, name: str) -> UInt8Array:
        """A picture, uint8 (H, W, 3); VideoError if it cannot be read."""
        return read_rgb(self.pictures[name].path)

    @abstractmethod
    def masks(self, name: str, size_wh: tuple[int, int]) -> dict[str, BoolArray]:
        """The objects of a picture of this size: id -> bool (H, W), not empty.

        Raises:
            DatasetError: the annotation is broken, or was made for another size.
        """

    def left_out(self, name: str) -> int:
        """How many objects of a picture are not scored, because the data set says so (crowds of COCO)."""
        return 0


class MaskImages(ImageSet):
    """Images with a mask picture each, whose numbers are the objects.

    Args:
        files: of the masks, by the names of `pictures`.
        reading: what is known about them.
    """

    def __init__(
        self,
        name: str,
        split: str,
        pictures: Mapping[str, Picture],
        *,
        files: Mapping[str, Path],
        description: str,
        reading: MaskRule,
    ) -> None:
        super().__init__(name, split, pictures)
        self.description, self._files, self._reading = description, dict(files), reading

    def masks(self, name: str, size_wh: tuple[int, int]) -> dict[str, BoolArray]:
        """See `ImageSet.masks`."""
        path = self._files[name]
        try:
            found = read_mask_objects(path, self._reading)
        except VideoError as error:
            raise DatasetError(str(error)) from error
        for mask in found.values():
            if mask.shape != size_wh[::-1]:
                raise DatasetError(
                    f"{path} is {mask.shape[1]}x{mask.shape[0]}, its picture {size_wh[0]}x{size_wh[1]}: the same "
                    "size expected"
                )
        return {str(number): mask for number, mask in found.items()}


def choose_pictures(images: ImageSet, limit: int | None = None) -> tuple[str, ...]:
    """The names of at most `limit` pictures, evenly spaced over the data set, so that every large set has some."""
    names = list(images.pictures)
    if limit is None or limit >= len(names):
        return tuple(names)
    return tuple(names[k * len(names) // limit] for k in range(limit))


def open_mask_images(root: Path, split: str | None, reading: MaskRule = FROM_FILE) -> MaskImages:
    """Open a folder of images with masks, or the first annotated frames of a video data set; see `TREE`.

    Args:
        split: a folder below `root`, or a list in `ImageSets` of a video data set; all by default.

    Raises:
        ConfigError: there is no such split.
        DatasetError: it has neither layout, or a mask has no picture.
    """
    if (root / "JPEGImages").is_dir() and (root / "Annotations").is_dir():
        return _first_frames(root, split or ALL, reading)
    top = root if split in (None, ALL) else inside(root, split, "--split", ConfigError)
    if not top.is_dir():
        raise ConfigError(f"{root} has no folder {split!r}: name one of its folders, or leave --split out")
    pictures: dict[str, Picture] = {}
    files: dict[str, Path] = {}
    for folder in _folders_of_masks(top, root):
        group = folder.relative_to(root).as_posix() if folder != root else root.resolve().name
        images = list_files(folder / "images", tuple(sorted(SUFFIXES)))
        for stem, path in list_files(folder / "masks", tuple(sorted(SUFFIXES))).items():
            if stem not in images:
                raise DatasetError(f"{path} has no picture: {folder / 'images' / stem}.jpg or .png expected")
            name = images[stem].relative_to(root).as_posix()
            pictures[name], files[name] = Picture(group, images[stem]), path
    return MaskImages(
        root.resolve().name, split or ALL, pictures, files=files, description="images with masks", reading=reading
    )


def _folders_of_masks(top: Path, root: Path) -> list[Path]:
    """The folders that hold both `images` and `masks`."""
    found = sorted(path.parent for path in (top, *top.rglob("masks")) if path.name == "masks" and path.is_dir())
    if (top / "masks").is_dir():
        found.append(top)
    chosen = [
        folder for folder in dict.fromkeys(found) if (folder / "images").is_dir() and folder.is_relative_to(top)
    ]
    visible = [f for f in chosen if not any(part.startswith(".") for part in f.relative_to(root).parts)]
    if not visible:
        raise DatasetError(f"{top} has no images with masks. Expected:\n{TREE.rstrip()}")
    return visible


def _first_frames(root: Path, split: str, reading: MaskRule) -> MaskImages:
    depth = "480p" if (root / "JPEGImages" / "480p").is_dir() else ""
    images, annotations = (root / part / depth for part in ("JPEGImages", "Annotations"))
    sequences: Sequence[str] = subfolders(annotations)
    if split != ALL:
        lists = [root / "ImageSets" / place / f"{split}.txt" for place in ("2017", "2016", "480p", ".")]
        found = next((path for path in lists if path.is_file()), None)
        if found is None:
            raise ConfigError(f"{root} has no split {split!r}: {lists[-1]} expected, or leave --split out")
        # the published lists name files, "/JPEGImages/480p/bear/00000.jpg ..."; others sequences
        sequences = sorted({Path(line).parent.name if "/" in line else line for line in read_list(found)})
        check_names(sequences, annotations, f"a sequence in {found}")
    if not sequences:
        raise DatasetError(f"no sequences in {annotations}: folders of masks expected there")
    pictures: dict[str, Picture] = {}
    files: dict[str, Path] = {}
    for sequence in sequences:
        stem, mask = next(iter(list_files(annotations / sequence, (".png",)).items()))
        frames = list_files(images / sequence, tuple(sorted(SUFFIXES)))
        if stem not in frames:
            raise DatasetError(f"{mask} has no frame: {images / sequence / stem}.jpg expected")
        name = frames[stem].relative_to(root).as_posix()
        pictures[name], files[name] = Picture(root.resolve().name, frames[stem]), mask
    description = "the first annotated frame of each sequence"
    return MaskImages(root.resolve().name, split, pictures, files=files, description=description, reading=reading)
