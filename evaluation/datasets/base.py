"""The interface of data sets, and what most of them share: frames and masks in a folder per sequence.

A new data set is one file here with a `DatasetSpec` in `VARIANTS`; `tests/evaluation/test_datasets.py` tests all.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter

from samvideo.errors import DatasetError
from samvideo.evaluation.files import MaskSet, list_names, read_index_png, without_void
from samvideo.io import schema
from samvideo.io.images import natural_key
from samvideo.io.mask_pictures import FROM_FILE, MaskRule, void_of
from samvideo.io.paths import inside

T = TypeVar("T")

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
MATCHED = "each object with the track that fits it best over the whole sequence, whatever its number"
LONGEST_NAME = 200  # bytes, so that file systems take it with a prefix and a suffix


@dataclass(frozen=True)
class VideoSequence:
    """The files of one sequence.

    Attributes:
        name: of the sequence, and of the folder of its predictions.
        frames: names of all frames in order, without suffix; predictions are saved under them.
        images: the file of each frame; empty if `video` holds them, or if there are none.
        video: the video file, or None.
        masks: the ground truth of annotated frames: frame index -> file (or folder of files).
        labels: the objects: number -> how the benchmark writes it.
        first_seen: object -> index of the frame where it first appears, and is prompted.
        scored: object -> indices of the frames that count; empty where the ground truth is not public.
        saved: indices of the frames whose predictions are kept.
        groups: object -> "seen" or "unseen", or the name of its class, where the benchmark tells them apart.
        prompted: indices of frames whose masks a person has prompted, where that is known.
    """

    name: str
    frames: tuple[str, ...]
    images: tuple[Path, ...]
    masks: Mapping[int, Path]
    labels: Mapping[int, str]
    first_seen: Mapping[int, int]
    scored: Mapping[int, tuple[int, ...]]
    saved: tuple[int, ...]
    video: Path | None = None
    groups: Mapping[int, str] = field(default_factory=dict)
    prompted: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_names(self.labels.values(), Path(self.name), f"an object of {self.name}")


@dataclass(frozen=True)
class ScoringRule:
    """How a benchmark scores.

    Attributes:
        description: which frames count, in a sentence; printed in every result.
        until_seen: an object does not count before it is first in the ground truth or the prediction.
        by_class: also compute the metrics of the EndoVis challenges, with `VideoSequence.groups` as classes.
        overall: the number that the benchmark ranks by.
        matched: predicted masks are tracks of any number; see `samvideo.evaluation.matching`.
    """

    description: str
    until_seen: bool = False
    by_class: bool = False
    overall: str = "J&F"
    matched: bool = False


class Dataset(ABC):
    """One split of a benchmark.

    Attributes:
        name, split: their names on the command line.
        rule: how it is scored.
        apart: predictions are saved in a folder per object, since objects may overlap.
        archive: folder inside the zip that the benchmark's server expects ("" for its top), None for no zip.
        on_server: where only the first frame of a sequence is annotated, a server has the rest of the ground truth.
        reading: what the user says about the masks, of ground truth and predictions.
    """

    name: str
    rule: ScoringRule
    apart: bool = False
    archive: str | None = None
    on_server: bool = True
    reading: MaskRule = FROM_FILE

    def __init__(self, split: str, names: Iterable[str]) -> None:
        self.split, self._names = split, tuple(names)

    def sequences(self) -> list[str]:
        """Names of all sequences, in order."""
        return list(self._names)

    @abstractmethod
    def sequence(self, name: str) -> VideoSequence:
        """List the files of one sequence.

        Raises:
            DatasetError: files are missing or unexpected; the message has the path and the remedy.
        """

    def truth(self, sequence: VideoSequence, index: int) -> MaskSet:
        """The ground truth of an annotated frame.

        Raises:
            DatasetError: unreadable, of another size than the frame before, or with an unknown object.
        """
        path = sequence.masks[index]
        masks = without_void(self.read(path), sequence.labels, self.reading)
        if strange := masks.numbers - sequence.labels.keys():
            raise DatasetError(
                f"{path} has object {max(strange)}, above the {len(sequence.labels)} objects of this sequence "
                f"({', '.join(sequence.labels.values())}): correct the file, or restore it from the archive"
            )
        return masks

    def truth_files(self, sequence: VideoSequence, index: int) -> tuple[Path, ...]:
        """The files that `truth` reads for an annotated frame."""
        return (sequence.masks[index],)

    def read(self, path: Path) -> MaskSet:
        """A ground truth file as it is."""
        return MaskSet(index=read_index_png(path, self.reading))


@dataclass(frozen=True)
class DatasetSpec:
    """How to open a data set.

    Attributes:
        splits: their names, the default first.
        tree: the published layout of its folders, drawn.
        recognises: whether a folder looks like this data set.
        load: opens one split of a folder; raises WrongRoot if it does not hold the data set, DatasetError if it is
            damaged.
    """

    splits: tuple[str, ...]
    tree: str
    recognises: Callable[[Path], bool]
    load: Callable[[Path, str], Dataset]


class WrongRoot(DatasetError):
    """The folder does not hold the data set; `open_dataset` adds what it should look like.

    Args:
        looked_for: files and folders, one of which was expected.
        found: what is there instead, if known: a sentence with the remedy.
    """

    def __init__(self, *looked_for: Path, found: str = "") -> None:
        super().__init__(found or f"looked for {' or '.join(map(str, looked_for))}")


def check_names(names: Iterable[str], root: Path, described: str) -> None:
    """Check that each name can be that of a file or folder of results.

    Raises:
        DatasetError: one is absolute, hidden, too long, or leads to another folder.
    """
    for name in names:
        path = inside(root, name, described, DatasetError)
        if path.name != name or name.startswith(".") or len(name.encode()) > LONGEST_NAME:
            raise DatasetError(
                f"{described} is {name[:80]!r}: a name of at most {LONGEST_NAME} bytes expected, without / and "
                "without a dot in front"
            )


def folder_of_split(root: Path, split: str) -> Path:
    """The folder of a split, which may have been given itself."""
    return root / split if (root / split).is_dir() else root


def image_and_mask_folders(
    top: Path, depth: str = "", others: Sequence[Path] = (), annotations: str = "Annotations"
) -> tuple[Path, Path]:
    """`JPEGImages` and `annotations` in a folder, or the folders named `depth` in them.

    Raises:
        WrongRoot: one is missing; the message also names the folders `others`.
    """
    images, masks = top / "JPEGImages" / depth, top / annotations / depth
    if not (images.is_dir() and masks.is_dir()):
        raise WrongRoot(images, masks, *others)
    return images, masks


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, hidden ones left out, in order; none if it does not exist."""
    return [path.name for path in visible(folder) if path.is_dir()] if folder.is_dir() else []


def visible(folder: Path) -> list[Path]:
    """The files and folders in a folder, hidden ones left out, in order."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DatasetError(f"{folder} cannot be read: {error.strerror or error}") from error


def list_files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The files of a sequence by name, hidden ones left out, in the order of the numbers in the names.

    Raises:
        DatasetError: no such folder, nothing in it, other files, or two of one name.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} is missing: restore it from the data set's archive")
    files = sorted(visible(folder), key=lambda path: (natural_key(path), path.name))
    extra = [path for path in files if path.suffix.lower() not in suffixes or not path.is_file()]
    if extra:
        raise DatasetError(
            f"{folder} holds what does not belong there: {list_names(extra)}; only {' or '.join(suffixes)} files "
            "expected, remove the rest"
        )
    if not files:
        raise DatasetError(f"{folder} is empty: restore it from the data set's archive")
    named = {path.stem: path for path in files}
    if twice := [path for path in files if named[path.stem] != path]:
        raise DatasetError(
            f"{folder} holds both {twice[0].name} and {named[twice[0].stem].name}: one file a frame expected"
        )
    return named


def read_list(path: Path) -> list[str]:
    """Read names from a text file, one per line.

    Raises:
        DatasetError: missing or empty.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        names = list(dict.fromkeys(line.split()[0] for line in text.splitlines() if line.strip()))
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read ({error}): restore it from the data set's archive") from error
    if not names:
        raise DatasetError(f"{path} is empty: one sequence name a line expected")
    return names


def read_json(path: Path, adapter: TypeAdapter[T]) -> T:
    """Read a JSON file of the data set.

    Raises:
        DatasetError: it cannot be read, or does not fit the schema.
    """
    expected = "the file as published (restore it from the data set's archive)"
    return schema.read_json(path, adapter, expected, DatasetError)


def match(frames: tuple[str, ...], masks: dict[str, Path], folder: Path, every: bool) -> dict[int, Path]:
    """Ground truth files by frame index.

    Args:
        every: each frame must have one; else some may.

    Raises:
        DatasetError: masks without a frame, or the other way round.
    """
    indices = {name: index for index, name in enumerate(frames)}
    extra = [path for name, path in masks.items() if name not in indices]
    if extra:
        raise DatasetError(
            f"{folder} holds masks without a frame: {list_names(extra)}; a mask has the name of its frame, such as "
            f"{frames[0]}.png: rename them, remove them, or restore the frames"
        )
    missing = [name for name in frames if name not in masks] if every else []
    if missing:
        raise DatasetError(
            f"{folder / (missing[0] + '.png')} is missing ({len(missing)} of {len(frames)} frames have no mask): "
            "restore it from the data set's archive"
        )
    return {indices[name]: path for name, path in masks.items()}


def appearances(masks: Iterable[tuple[int, MaskSet]]) -> dict[int, int]:
    """Object -> first of the frames that has it, in order of object; the frames must be in order."""
    first: dict[int, int] = {}
    for index, found in masks:
        for number in found.numbers:
            first.setdefault(number, index)
    return dict(sorted(first.items()))


class MaskFolders(Dataset):
    """Sequences of `<images>/<sequence>/*.jpg` and `<annotations>/<sequence>/*.png`, objects numbered per pixel.

    Args:
        images, annotations: the two folders; `images` None where there are masks only.
        names: of the sequences; by default all that have masks.

    Attributes:
        every_frame: each image must have a mask (unless the whole split keeps its masks secret).

    Raises:
        WrongRoot: no names are given, and there is no folder of masks.
    """

    every_frame = False

    def __init__(
        self, split: str, images: Path | None, annotations: Path, names: Iterable[str] | None = None
    ) -> None:
        found = subfolders(annotations)
        if names is None and not found:
            holds = "files and no folders" if visible(annotations) else "nothing"
            raise WrongRoot(found=f"{annotations} holds {holds}: one folder per sequence expected")
        super().__init__(split, found if names is None else names)
        self.images, self.annotations = images, annotations

    def frames(self, name: str) -> dict[str, Path]:
        """Images by frame name; empty where there are masks only."""
        if self.images is None:
            return {}
        if not (self.images / name).is_dir():
            others = sorted(set(subfolders(self.images)) - set(subfolders(self.annotations)))
            rename = f"rename one that has no masks ({', '.join(others[:3])}), or " if others else ""
            raise DatasetError(
                f"{self.annotations / name} has no {self.images / name}: the images and the masks of a sequence "
                f"are in folders of the same name; {rename}restore the images"
            )
        return list_files(self.images / name, IMAGE_SUFFIXES)

    def masks(self, name: str) -> dict[str, Path]:
        """Ground truth files by frame name."""
        return list_files(self.annotations / name, (".png",))

    def sequence(self, name: str) -> VideoSequence:
        """List the files of one sequence; see `Dataset.sequence`."""
        folder = self.annotations / name
        masks = self.masks(name)
        images = self.frames(name)
        names = tuple(images or masks)
        secret = self.on_server and len(masks) == 1 and len(names) > 1
        matched = match(names, masks, folder, every=self.every_frame and not secret)
        first = self.objects(matched)
        if not first:
            raise DatasetError(f"{folder} has no object in any mask it should be prompted with")
        return VideoSequence(
            name=name,
            frames=names,
            images=tuple(images.values()),
            masks=matched,
            labels={number: str(number) for number in first},
            first_seen=first,
            scored={} if secret else {number: self.scored(sorted(matched), number, first) for number in first},
            saved=tuple(range(len(names))),
        )

    def objects(self, masks: Mapping[int, Path]) -> dict[int, int]:
        """The objects and the frame each is prompted on: where it first appears. Void is none."""
        first = appearances((index, self.read(masks[index])) for index in sorted(masks))
        void = void_of(set(first), self.reading)
        return {number: index for number, index in first.items() if number != void}

    def scored(self, annotated: list[int], number: int, first: Mapping[int, int]) -> tuple[int, ...]:
        """The frames that count for one object: by default all but the first and the last, as in DAVIS."""
        return tuple(annotated[1:-1])
