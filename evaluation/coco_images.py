"""COCO-like annotations (Lin et al., arXiv 1405.0312): one JSON file with images and instances, as RLE or polygons.

LVIS (Gupta et al., CVPR 2019) has the same form, with the address of each image in place of its name.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter, model_validator

from samvideo.errors import ConfigError, DatasetError, shown
from samvideo.evaluation.datasets.base import read_json
from samvideo.evaluation.image_sets import ImageSet, Picture
from samvideo.io.masks import decode_polygons
from samvideo.io.paths import inside
from samvideo.io.rle import decode_rle
from samvideo.types import BoolArray

FOLDER = "annotations"
PREFIX = "instances_"
FIRST = 50  # images by which the folder of the pictures is recognised

Side = Annotated[int, Field(ge=1, le=100_000)]


class _Image(BaseModel):
    id: int
    width: Side
    height: Side
    file_name: str = ""
    coco_url: str = ""

    @model_validator(mode="after")
    def _named(self) -> "_Image":
        if not self.file_name:
            if not self.coco_url:
                raise ValueError("file_name or coco_url expected")
            self.file_name = "/".join(self.coco_url.split("/")[-2:])  # LVIS: .../val2017/000000397133.jpg
        return self


class _Annotation(BaseModel):
    id: int | str | None = None
    image_id: int
    iscrowd: Annotated[int, Field(ge=0, le=1)] = 0
    segmentation: list[Any] | dict[str, Any]  # checked where it is decoded: most of the file


class _Coco(BaseModel):
    images: list[_Image]
    annotations: list[_Annotation]


_COCO = TypeAdapter(_Coco)


class CocoImages(ImageSet):
    """The images that a COCO-like file annotates; crowds are not scored.

    Args:
        file: the annotations.
        split: for the record.

    Raises:
        DatasetError: the file is broken, an annotation belongs to no image, or no picture is found.
    """

    description = "images with COCO annotations"

    def __init__(self, file: Path, split: str) -> None:
        coco = read_json(file, _COCO)
        self._file = file
        self._images = _by_id(file, coco.images)
        self._by_image: dict[str, dict[str, tuple[int, _Annotation]]] = {}
        self._crowds: dict[str, int] = {}
        used: set[str] = set()
        for place, annotation in enumerate(coco.annotations):
            if annotation.image_id not in self._images:
                raise DatasetError(
                    f"{file}: annotations.{place}.image_id is {annotation.image_id}: the id of one of its images "
                    "expected"
                )
            name = self._images[annotation.image_id].file_name
            key = f"#{place}" if annotation.id is None else str(annotation.id)
            if key in used:
                raise DatasetError(f"{file}: annotations.{place}.id is {key}, as of another: each its own expected")
            used.add(key)
            objects = self._by_image.setdefault(name, {})
            if annotation.iscrowd:
                self._crowds[name] = self._crowds.get(name, 0) + 1
            else:
                objects[key] = place, annotation
        self._sizes = {image.file_name: (image.width, image.height) for image in coco.images}
        annotated = [image.file_name for image in coco.images if image.file_name in self._by_image]
        folder = _folder_of_pictures(file, split, annotated)
        group = split if split != "all" else file.stem.removeprefix(PREFIX)
        described = f"an image of {file}"
        pictures = {name: Picture(group, inside(folder, name, described, DatasetError)) for name in annotated}
        super().__init__(file.stem, split, pictures)

    def masks(self, name: str, size_wh: tuple[int, int]) -> dict[str, BoolArray]:
        """See `ImageSet.masks`. Objects without a pixel are left out."""
        if size_wh != self._sizes[name]:
            width, height = self._sizes[name]
            raise DatasetError(
                f"{self.pictures[name].path} is {size_wh[0]}x{size_wh[1]}, but {self._file} says {width}x{height}: "
                "restore the picture, or correct its width and height"
            )
        found = {}
        for key, (place, annotation) in self._by_image[name].items():
            try:
                mask = _decode(annotation.segmentation, size_wh)
            except ConfigError as error:
                raise DatasetError(f"{self._file}: annotations.{place}.segmentation: {error}") from error
            if mask.any():
                found[key] = mask
        return found

    def left_out(self, name: str) -> int:
        """See `ImageSet.left_out`."""
        return self._crowds.get(name, 0)


def _by_id(file: Path, images: Iterable[_Image]) -> dict[int, _Image]:
    by_id: dict[int, _Image] = {}
    names: set[str] = set()
    for place, image in enumerate(images):
        for field, value, known in (("id", image.id, by_id), ("file_name", image.file_name, names)):
            if value in known:
                raise DatasetError(
                    f"{file}: images.{place}.{field} is {shown(value)}, as of another image: each its own expected"
                )
        by_id[image.id] = image
        names.add(image.file_name)
    return by_id


def _decode(segmentation: list[Any] | dict[str, Any], size_wh: tuple[int, int]) -> BoolArray:
    """The mask of an instance; ConfigError if it is broken, or has another size."""
    if isinstance(segmentation, dict):
        return decode_rle(segmentation, size_wh)
    return decode_polygons(segmentation, size_wh)


def _folder_of_pictures(file: Path, split: str, names: list[str]) -> Path:
    """The folder, of those where COCO, LVIS and others keep them, that has one of the first pictures."""
    if not names:
        raise DatasetError(f"{file} annotates no image: annotations expected")
    part = file.stem.rsplit("_", 1)[-1]
    parts = dict.fromkeys((".", "images", part, split, f"images/{part}", f"images/{split}", "train2017", "val2017"))
    folders = [top / each for top in (file.parent, file.parent.parent) for each in parts]
    for folder in folders:
        if any(inside(folder, name, f"an image of {file}", DatasetError).is_file() for name in names[:FIRST]):
            return folder
    raise DatasetError(
        f"the pictures of {file}, such as {names[0]}, are not there: they are expected beside it, in a folder "
        f"images or {part} beside it, or in such a folder beside {file.parent.name}"
    )


def annotation_file(root: Path, split: str | None) -> tuple[Path, str] | None:
    """The annotations of a folder in COCO's layout, or of a JSON file itself, and the name of the split.

    Returns None where a folder has none.

    Raises:
        ConfigError: there is no such split, or several and none is chosen.
    """
    if root.is_file():
        if split is not None:
            raise ConfigError(f"{root} is one file of annotations: leave --split out")
        return root, "all"
    files = {path.stem.removeprefix(PREFIX): path for path in sorted((root / FOLDER).glob("*.json"))}
    if not files:
        return None
    chosen = split or (next(iter(files)) if len(files) == 1 else None)
    if chosen not in files:
        wrong = f"has no split {split!r}" if split else "has several splits"
        raise ConfigError(f"{root} {wrong}: choose one with --split: {', '.join(files)}")
    return files[chosen], chosen
