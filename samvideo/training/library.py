"""Pictures and clips with masks, held as uint8 tensors on the device that trains: reading happens once."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from samvideo.errors import DatasetError
from samvideo.evaluation.datasets.base import IMAGE_SUFFIXES, list_files, match, subfolders
from samvideo.geometry import fit_size
from samvideo.io.images import find_images, read_still
from samvideo.io.masks import read_mask_objects
from samvideo.training import splits
from samvideo.training.files import sha256
from samvideo.types import BoolArray, UInt8Array

LONGEST = 864  # pixels of the longer side; DAVIS at 480p has 854
TERMS = ("open", "unstated")  # folders of data whose terms allow every use, and of data that state none
Floats: TypeAlias = NDArray[np.floating[Any]]
Wanted: TypeAlias = Callable[[str], bool]


@dataclass(frozen=True, eq=False)
class Shot:
    """A still picture (F = 1) or a clip of F frames, with the masks of K objects.

    Attributes:
        name: of the file without suffix, or of the clip's folder.
        group: the set that it belongs to: what it shows is alike within a group.
        pixels: uint8 (F, 4, H, W) on the device: red, green, blue, and ids from 1 to K, 0 for the rest.
        boxes: float32 (F, K, 4), left, top, right, bottom in pixels, zeros where the object is absent.
        areas: int64 (F, K), pixels of each mask.
        cut: bool (F, K), the mask touches the edge of the picture.
    """

    name: str
    group: str
    pixels: Tensor
    boxes: Floats
    areas: NDArray[np.int64]
    cut: BoolArray

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[3], self.pixels.shape[2]

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True, eq=False)
class Library:
    """All shots of one side of the split.

    Attributes:
        stills: pictures, by group.
        clips: videos, by group.
        device: where their pixels are.
    """

    stills: Mapping[str, Sequence[Shot]]
    clips: Mapping[str, Sequence[Shot]]
    device: torch.device

    @cached_property
    def groups(self) -> Mapping[str, Sequence[Shot]]:
        """Stills and clips."""
        return {**self.stills, **self.clips}

    @classmethod
    def read(
        cls,
        objects: Iterable[Path] = (),
        videos: Iterable[Path] = (),
        *,
        terms: Sequence[str] = ("open",),
        side: splits.Side = "train",
        device: torch.device | str = "cpu",
        fold: tuple[int, int] | None = None,
        longest: int = LONGEST,
    ) -> "Library":
        """Read folders of pictures and of videos.

        Args:
            objects: folders of `<terms>/<set>/{images,masks}`, or one `<set>`; files pair by their names.
            videos: folders of `JPEGImages/[480p/]<clip>` and `Annotations/[480p/]<clip>` as in DAVIS, or of such
                folders by terms. The largest of several clips of one name is read.
            terms: which of `TERMS` are read, where a folder has them.
            side: of the split of `samvideo.training.splits`.
            device: where the tensors are kept, four bytes a pixel.
            fold: K and N: leave out fold K of N as well, for cross-validation.
            longest: larger pictures are shrunk to this longer side, in pixels.

        Raises:
            ConfigError: there is no such fold.
            DatasetError: a folder has another layout, files are missing, or nothing on that side shows an object.
            VideoError: a picture or a mask is damaged.
        """

        places = _find(objects, videos, terms, side, fold)
        stills: dict[str, list[Shot]] = defaultdict(list)
        clips: dict[str, list[Shot]] = defaultdict(list)
        with ThreadPoolExecutor() as pool:  # decoding releases the interpreter's lock
            for shot in pool.map(lambda place: _read(place, torch.device(device), longest), places):
                if shot is not None:
                    (stills if len(shot) == 1 else clips)[shot.group].append(shot)
        if not stills and not clips:
            raise DatasetError(
                f"no mask on the side {side!r} of the split, such as {places[0].masks[0]}, has an object: masks "
                "with numbers from 1 are needed"
            )
        return cls(dict(stills), dict(clips), torch.device(device))


def library_digest(
    objects: Iterable[Path],
    videos: Iterable[Path] = (),
    *,
    terms: Sequence[str],
    fold: tuple[int, int] | None = None,
) -> str:
    """SHA-256 of what `Library.read` reads to train on, without decoding it; raises as it does."""
    digest = hashlib.sha256()
    for place in _find(objects, videos, terms, "train", fold):
        digest.update(f"{place.group} {place.name} {len(place.images)}".encode())
        for file in (*place.images, *place.masks):
            digest.update(sha256(file).encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Place:
    """Files of one shot."""

    name: str
    group: str
    images: tuple[Path, ...]
    masks: tuple[Path, ...]


def _find(
    objects: Iterable[Path],
    videos: Iterable[Path],
    terms: Sequence[str],
    side: splits.Side,
    fold: tuple[int, int] | None,
) -> list[_Place]:
    """What the folders have on a side of the split; see `Library.read`."""

    def wanted(name: str) -> bool:
        return splits.side(name) == side and not (fold and splits.fold(name, *fold))

    sets = [_set(folder, wanted) for root in objects for folder in _by_terms(root, terms, "images")]
    folders = [folder for root in videos for folder in _by_terms(root, terms, "JPEGImages")]
    places = [*(place for found in sets for place in found), *_largest(folders, wanted)]
    if not places:
        raise DatasetError(
            f"nothing in the folders given is on the side {side!r} of the split, with terms "
            f"{', '.join(terms)}: other folders or terms are needed"
        )
    return places


def _by_terms(root: Path, terms: Sequence[str], inner: str) -> Iterator[Path]:
    """Yield the folders that hold a folder `inner`: `root`, or those in its groups with these terms."""
    if not root.is_dir():
        raise DatasetError(f"there is no folder {root}: check the spelling and the folder you are in")
    if (root / inner).is_dir():
        yield root
        return
    groups = [root / name for name in TERMS if (root / name).is_dir()]
    if not groups:
        raise DatasetError(f"{root} has none of the folders {inner}, {', '.join(TERMS)}: see the data's README")
    for group in groups:
        if group.name in terms:
            inside = [group, *(group / name for name in subfolders(group))]
            yield from (folder for folder in inside if (folder / inner).is_dir())


def _set(folder: Path, wanted: Wanted) -> list[_Place]:
    group = f"{folder.parent.name}/{folder.name}"
    places = []
    for image in find_images((folder / "images").iterdir()):
        mask = folder / "masks" / f"{image.stem}.png"
        if not mask.is_file():
            raise DatasetError(f"{mask} is missing: {image} needs a mask, or remove it")
        if wanted(image.stem):
            places.append(_Place(image.stem, group, (image,), (mask,)))
    return places


def _largest(roots: Sequence[Path], wanted: Wanted) -> list[_Place]:
    """List the clips of all folders by name; of several of one name, the one with the most bytes a picture."""
    places: dict[str, _Place] = {}
    for root in roots:
        depth = "480p" if (root / "JPEGImages" / "480p").is_dir() else ""
        for name in filter(wanted, subfolders(root / "JPEGImages" / depth)):
            images = list_files(root / "JPEGImages" / depth / name, IMAGE_SUFFIXES)
            folder = root / "Annotations" / depth / name
            masks = match(tuple(images), list_files(folder, (".png",)), folder, every=True)
            place = _Place(name, root.name, tuple(images.values()), tuple(masks[k] for k in range(len(images))))
            if name not in places or _bytes(place) > _bytes(places[name]):
                places[name] = place
    return list(places.values())


def _bytes(place: _Place) -> int:
    return place.images[0].stat().st_size


def _read(place: _Place, device: torch.device, longest: int) -> Shot | None:
    """Read one shot; None if it shows no object."""
    frames = [_frame(image, mask, longest) for image, mask in zip(place.images, place.masks, strict=True)]
    if len({frame.shape for frame in frames}) > 1:
        raise DatasetError(f"the frames of {place.images[0].parent} differ in size: one size a clip expected")
    pixels = np.stack(frames)
    known = [
        int(number) for number in np.flatnonzero(np.bincount(pixels[:, 3].reshape(-1), minlength=256)) if number
    ]
    if not known:
        return None
    table = np.zeros(256, np.uint8)
    table[known] = np.arange(1, len(known) + 1)
    pixels[:, 3] = table[pixels[:, 3]]
    boxes, areas, cut = measure(pixels[:, 3], len(known))
    return Shot(place.name, place.group, torch.from_numpy(pixels).to(device), boxes, areas, cut)


def _frame(image: Path, mask: Path, longest: int) -> UInt8Array:
    """Read a frame and its mask, uint8 (4, H, W)."""
    rgb = read_still(image)
    size_wh = (rgb.shape[1], rgb.shape[0])
    ids = np.zeros(rgb.shape[:2], np.uint8)
    for number, where in read_mask_objects(mask, size_wh=size_wh).items():
        if number > np.iinfo(np.uint8).max:
            raise DatasetError(f"{mask} has object {number}: numbers up to 255 expected, renumber the objects")
        ids[where] = number
    if max(size_wh) > longest:
        smaller = fit_size(size_wh, longest)
        rgb = cv2.resize(rgb, smaller, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        ids = cv2.resize(ids, smaller, interpolation=cv2.INTER_NEAREST_EXACT).astype(np.uint8, copy=False)
    return np.concatenate([rgb.transpose(2, 0, 1), ids[None]])


def measure(ids: UInt8Array, count: int) -> tuple[Floats, NDArray[np.int64], BoolArray]:
    """Return boxes, areas and cut of a shot; see `Shot`."""
    boxes = np.zeros((len(ids), count, 4), np.float32)
    areas = np.zeros((len(ids), count), np.int64)
    for frame, number in np.ndindex(len(ids), count):
        mask = (ids[frame] == number + 1).view(np.uint8)
        x, y, w, h = cv2.boundingRect(mask)
        boxes[frame, number] = x, y, x + w, y + h
        areas[frame, number] = cv2.countNonZero(mask)
    boxes[areas == 0] = 0
    height, width = ids.shape[1:]
    cut = (areas > 0) & ((boxes[..., :2] == 0).any(-1) | (boxes[..., 2:] == (width, height)).any(-1))
    return boxes, areas, cut
