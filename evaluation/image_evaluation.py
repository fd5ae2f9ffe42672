"""Evaluate on a data set of images: IoU of a segmenter from boxes, clicks and corrective clicks.

What proposals find is scored in `samvideo.evaluation.proposals`, by the same run over the images.
"""

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np

from samvideo.errors import ConfigError, DatasetError
from samvideo.evaluation.coco_images import CocoImages, annotation_file
from samvideo.evaluation.datasets import open_dataset
from samvideo.evaluation.evaluate import Progress, choose_sequences, claimed, run_missing
from samvideo.evaluation.first_frames import FirstFrames
from samvideo.evaluation.image_protocols import ImageProtocol, find_image_protocol, prompt_all
from samvideo.evaluation.image_results import (
    FORMAT,
    fingerprint,
    read_image_entry,
    summarise_images,
    write_image_results,
)
from samvideo.evaluation.image_sets import TREE, ImageSet, open_mask_images
from samvideo.evaluation.results import environment, write_json
from samvideo.evaluation.shard import Pool, run_here
from samvideo.io.mask_pictures import FROM_FILE, MaskRule
from samvideo.io.masks import encode_rle
from samvideo.segmenters.base import Segmenter
from samvideo.types import BoolArray, UInt8Array, image_wh

FOLDER = "images"
"""Folder of a run with one file for each finished image."""


def open_images(root: Path, split: str | None = None, reading: MaskRule = FROM_FILE) -> ImageSet:
    """Open a data set of images: COCO's layout or JSON, folders of images with masks, or a video data set.

    Raises:
        ConfigError: there is no such split.
        DatasetError: there is no such data set, or it is broken.
    """
    if not root.exists():
        raise DatasetError(f"{root} does not exist; expected:\n{TREE.rstrip()}")
    found = annotation_file(root, split)
    return CocoImages(*found) if found else open_mask_images(root, split, reading)


def open_pictures(
    root: Path,
    split: str | None = None,
    reading: MaskRule = FROM_FILE,
    dataset: str | None = None,
    sequences: Sequence[str] = (),
    objects: tuple[int, ...] = (),
) -> ImageSet:
    """Open a data set of images, or of a data set of videos the frames where objects first appear.

    Args:
        root, split, reading: as for `open_images`, or `open_dataset`.
        dataset: name of the data set of videos; None for one of images.
        sequences, objects: of videos, which; all where empty.

    Raises:
        ConfigError, DatasetError: see `open_images`, `open_dataset` and `FirstFrames`.
    """
    if dataset is None:
        return open_images(root, split, reading)
    videos = open_dataset(dataset, root, split, reading)
    return FirstFrames(videos, choose_sequences(videos, sequences), objects)


class ImageMeasures(Protocol):
    """What is scored of every object."""

    @property
    def name(self) -> str:
        """As on the command line."""
        ...

    @property
    def measures(self) -> tuple[str, ...]:
        """Their names, in order."""
        ...

    def describe(self) -> str:
        """What is done, in a sentence, printed in every result."""
        ...


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """An image of a data set.

    Attributes:
        name: as in `ImageSet.pictures`.
        rgb: uint8 (H, W, 3).
        truth: its objects by id, bool (H, W), not empty.
    """

    name: str
    rgb: UInt8Array
    truth: Mapping[str, BoolArray]


@dataclass(frozen=True)
class ScoredImage:
    """The scores of one image.

    Attributes:
        objects: id -> iou, oracle and predicted, each by measure.
        masks: id -> measure -> RLE, of those that are kept.
        seconds: of the encoding, or of proposing; and of all prompts.
        prompts: how many.
        proposals: how many, None if none were asked for.
    """

    objects: Mapping[str, Mapping[str, Any]]
    masks: Mapping[str, Mapping[str, Any]]
    seconds: tuple[float, float]
    prompts: int = 0
    proposals: int | None = None


@dataclass(frozen=True)
class PictureTask(ABC):
    """What is to be run on every image; see `samvideo.evaluation.shard.Work`.

    Attributes:
        root, split, reading: as for `open_images`.
        protocol: its name.
        out: folder of the run.
        threads: of each worker; results of some libraries depend on it, so it belongs to the run.
    """

    root: Path
    split: str | None
    protocol: str
    out: Path
    threads: int = 1
    reading: MaskRule = FROM_FILE

    def open(self) -> ImageSet:
        """The data set."""
        return open_images(self.root, self.split, self.reading)

    def entry_path(self, name: str) -> Path:
        """Where the scores of a finished image are; it is finished when this file is there."""
        return self.out / FOLDER / f"{name}.json"

    @abstractmethod
    def scored(self) -> ImageMeasures:
        """What is scored; ConfigError if there is no such protocol."""

    @abstractmethod
    def score(self, made: Any, shown: AnnotatedImage) -> ScoredImage:
        """Run what the maker made on one image."""

    def run(self, images: ImageSet, made: Any, name: str) -> None:
        """Segment one image, and write its scores and masks.

        Raises:
            SamVideoError: the image or its annotation is broken, or nothing can be written.
        """
        picture = images.pictures[name]
        rgb = images.read(name)
        truth = images.masks(name, image_wh(rgb))
        found = self.score(made, AnnotatedImage(name, rgb, truth))
        result = {
            "set": picture.group,
            "width": rgb.shape[1],
            "height": rgb.shape[0],
            "sha256": _digest(rgb, truth),
            "left_out": images.left_out(name),
            "proposals": found.proposals,
            "objects": {
                key: {"area": int(np.count_nonzero(truth[key])), **scores} for key, scores in found.objects.items()
            },
        }
        first, then = found.seconds
        timing = {"embed_seconds": round(first, 6), "prompt_seconds": round(then, 6), "prompts": found.prompts}
        write_json(self.entry_path(name), {"result": result, "masks": found.masks, "timing": timing})


class ImageTask(PictureTask):
    """A segmenter prompted from the ground truth."""

    def scored(self) -> ImageProtocol:
        """See `PictureTask`."""
        return find_image_protocol(self.protocol)

    def score(self, made: Segmenter, shown: AnnotatedImage) -> ScoredImage:
        """See `PictureTask`."""
        protocol = self.scored()
        begin = time.perf_counter()
        embedded = made.embed(shown.rgb) if shown.truth else None
        middle = time.perf_counter()
        answers = prompt_all(embedded, shown.truth, protocol) if embedded else {}
        end = time.perf_counter()
        objects = {
            key: {
                "iou": {measure: answer.iou for measure, answer in found.items()},
                "oracle": {measure: answer.oracle for measure, answer in found.items()},
                "predicted": {measure: answer.predicted for measure, answer in found.items()},
            }
            for key, found in answers.items()
        }
        kept = [measure for measure in ("box", f"click{protocol.clicks}") if measure in protocol.measures]
        masks = {key: {k: encode_rle(found[k].mask) for k in kept} for key, found in answers.items()}
        prompts = len(objects) * len(protocol.measures)
        return ScoredImage(objects, masks, (middle - begin, end - middle), prompts)


def _digest(rgb: UInt8Array, masks: Mapping[str, BoolArray]) -> str:
    """SHA-256 of a decoded picture and its masks."""
    content = hashlib.sha256(np.ascontiguousarray(rgb).data)
    for key in sorted(masks):
        content.update(key.encode())
        content.update(np.packbits(masks[key]).data)
    return content.hexdigest()


@dataclass(frozen=True)
class ImageEvaluation:
    """A segmenter or automatic prompter to be evaluated on images.

    Attributes:
        task: data set, protocol, folder.
        model: name of the segmenter, for the record.
        make: creates what the task runs; called once in each worker.
        names: the images, in order.
        options: of the segmenter, for the record.
        licence: of its weights, for the record.
    """

    task: PictureTask
    model: str
    make: Callable[[], Any]
    names: Sequence[str]
    options: Mapping[str, Any] = field(default_factory=dict)
    licence: str = "-"


def evaluate_images(
    evaluation: ImageEvaluation, pool: Pool = run_here, progress: Progress = lambda name, done, total: None
) -> dict[str, Any]:
    """Evaluate the images that are not finished yet, and write the results of all.

    Raises:
        ConfigError: no such protocol, or no image; the folder belongs to another evaluation, lies in the data set
            or holds it, or another process writes into it.
        DatasetError: the data set or the scores of a finished image cannot be read.
        OutputError: the folder cannot be written.
    """
    task, names = evaluation.task, evaluation.names
    protocol = task.scored()
    images = task.open()
    if not names:
        raise ConfigError(f"{task.root} has no image to run")
    described = asdict(task)
    del described["out"]
    record = {"format": FORMAT, "model": evaluation.model, "options": evaluation.options, **described}
    with claimed(task.out, task.root, record):
        failures = run_missing(task, evaluation.make, names, pool, progress)
        done = [name for name in names if name not in failures]
        entries = {name: read_image_entry(task.entry_path(name), protocol.measures) for name in done}
        scored = {name: entry["result"] for name, entry in entries.items()}
        results = {
            "format": FORMAT,
            "dataset": {
                "name": images.name,
                "split": images.split,
                "description": images.description,
                "fingerprint": fingerprint(scored),
            },
            "protocol": {
                "name": protocol.name,
                "description": protocol.describe(),
                "measures": list(protocol.measures),
                "prompter": described.get("search", {}).get("prompter"),
            },
            "model": {"name": evaluation.model, "options": dict(evaluation.options), "licence": evaluation.licence},
            **summarise_images(scored),
            "images": scored,
            "failed": {name: asdict(failure) for name, failure in failures.items()},
            "timing": _total([entry["timing"] for entry in entries.values()]),
            **environment(),
        }
        write_image_results(task.out, results)
    return results


def _total(timing: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    total = {key: sum(part[key] for part in timing) for key in ("embed_seconds", "prompt_seconds", "prompts")}
    middle = median(part["embed_seconds"] for part in timing) if timing else None
    return {"images": len(timing), "median_seconds": middle} | {k: round(value, 6) for k, value in total.items()}
