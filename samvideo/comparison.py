"""A model before and after pruning or search: sizes, time, features and masks on pictures that were held out."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from samvideo.compress.distil import feature_error, maps_of
from samvideo.compress.latency import encoder_ms
from samvideo.encoders.base import ImageEncoder
from samvideo.errors import DatasetError
from samvideo.evaluation.image_protocols import Answer, find_image_protocol, iou, prompt_all
from samvideo.evaluation.image_sets import ImageSet, open_mask_images
from samvideo.evaluation.meter import count_flops
from samvideo.image_model import ImageModel
from samvideo.io.images import find_images, read_rgb
from samvideo.models import count_parameters
from samvideo.segmenters.image_model import ImageModelSegmenter
from samvideo.types import BoolArray

HELD_OUT = 8
"""One picture of so many is not learned from."""
OBJECTS = 16
"""At most so many objects of a picture are prompted."""
ROUNDS = 5
KEPT_BYTES = 2**30
"""Of inputs that are not read again."""


class Pictures(Sequence[Tensor]):
    """The pictures of a folder as inputs of a model, on its device, read when they are needed.

    Args:
        files: of the pictures.
        model: whose inputs they become.
    """

    def __init__(self, files: Sequence[Path], model: ImageModel) -> None:
        self.files, self._model = files, model
        self._kept: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]
        if index not in self._kept:
            with torch.no_grad():
                image = self._model.preprocess(read_rgb(self.files[index]))
            if (1 + len(self._kept)) * image.nbytes > KEPT_BYTES:
                return image
            self._kept[index] = image
        return self._kept[index]


@dataclass(frozen=True)
class Data:
    """Pictures of a folder.

    Attributes:
        learned: to learn from.
        held: to measure with.
        masks: of the latter, where the folder has them.
    """

    learned: list[Path]
    held: list[Path]
    masks: ImageSet | None = None

    def objects(self, path: Path, size_wh: tuple[int, int]) -> dict[str, BoolArray]:
        """The objects of a picture, the first ones of many; none where there are no masks."""
        if self.masks is None:
            return {}
        name = next(name for name, picture in self.masks.pictures.items() if picture.path == path)
        return dict(list(self.masks.masks(name, size_wh).items())[:OBJECTS])


def open_data(folder: Path, most: int, test: Path | None = None) -> Data:
    """Find the pictures of a folder, with masks in the layout {images,masks} or without, and hold some out.

    Args:
        folder: searched with all its folders.
        most: pictures that are measured with.
        test: folder of pictures to measure with; None: one of `HELD_OUT` of the others, which is not learned from.

    Raises:
        DatasetError: there are not enough pictures.
    """
    files, masks = _pictures(folder)
    if test is not None:
        held, masks = _pictures(test)
        learned, count = files, min(most, len(held))
    else:
        held, learned, count = files, [], min(most, max(1, len(files) // HELD_OUT))
    chosen = [held[i * len(held) // count] for i in range(count)]
    learned = learned or [file for file in files if file not in {*chosen}]
    if not learned:
        raise DatasetError(f"{folder} has 1 picture, at least two expected: one of them is held out")
    return Data(learned, chosen, masks)


def _pictures(folder: Path) -> tuple[list[Path], ImageSet | None]:
    if any(path.is_dir() for path in folder.rglob("masks")):
        masks = open_mask_images(folder, None)
        return [picture.path for picture in masks.pictures.values()], masks
    if not (files := find_images(folder.rglob("*"))):
        raise DatasetError(f"{folder} has no pictures: a folder with some, in it or in folders below it, expected")
    return files, None


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        stage: what was done until then.
        parameters: of the encoder, millions.
        gflop: of the encoder, for one picture.
        ms: of the encoder, for one picture; None where it was not measured.
        error: of its feature maps, see `feature_error`.
        agreement: mean IoU from boxes with the masks of the model before; None without masks.
        truth: mean IoU from boxes with the masks of the folder.
    """

    stage: str
    parameters: float
    gflop: float
    error: float
    agreement: float | None
    truth: float | None
    ms: float | None = None


@dataclass(eq=False)
class Comparison:
    """Compares encoders with that of a model.

    Attributes:
        model: before.
        data: whose held-out pictures are measured with.
        rows: so far; the first is that of the model.
    """

    model: ImageModel
    data: Data
    rows: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._pictures = [read_rgb(path) for path in self.data.held]
        self._objects = [
            self.data.objects(path, (rgb.shape[1], rgb.shape[0]))
            for path, rgb in zip(self.data.held, self._pictures, strict=True)
        ]
        self._before = self._answers(self.model.encoder)
        self.add("before", self.model.encoder)

    def add(self, stage: str, encoder: ImageEncoder) -> Row:
        """Measure an encoder in the place of the model's, all but its time."""
        errors, shared, true = [], [], []
        with torch.no_grad():
            for rgb in self._pictures:
                image = self.model.preprocess(rgb)
                errors.append(float(feature_error(maps_of(encoder, image), maps_of(self.model.encoder, image))))
        for before, after in zip(self._before, self._answers(encoder), strict=True):
            for key, answer in after.items():
                true.append(answer.iou)
                empty = not (answer.mask.any() or before[key].mask.any())
                shared.append(1.0 if empty else iou(answer.mask, before[key].mask))
        gflop = self._gflop(encoder)
        row = Row(stage, count_parameters(encoder) / 1e6, gflop, float(np.mean(errors)), _mean(shared), _mean(true))
        self.rows.append(row)
        return row

    def _answers(self, encoder: ImageEncoder) -> list[dict[str, Answer]]:
        """For each picture, object -> what the model with this encoder says of its box."""
        other, protocol = with_encoder(self.model, encoder), find_image_protocol("box")
        segmenter = ImageModelSegmenter(other, device=other.device)
        answers = []
        for rgb, objects in zip(self._pictures, self._objects, strict=True):
            found = prompt_all(segmenter.embed(rgb), objects, protocol) if objects else {}
            answers.append({key: of["box"] for key, of in found.items()})
        return answers

    def _gflop(self, encoder: ImageEncoder) -> float:
        alone, image = deepcopy(encoder).requires_grad_(False), self.model.preprocess(self._pictures[0])
        return count_flops(lambda: alone(image)) / 1e9

    def time(self, encoder: ImageEncoder) -> None:
        """Measure the encoders of the first and the last row, which is this one, in turn."""
        encoders = [self.model.encoder, encoder]
        times = encoder_ms(encoders, self.model.preprocess(self._pictures[0]), ROUNDS)
        for place, ms in zip((0, -1), times, strict=True):
            self.rows[place] = replace(self.rows[place], ms=ms)


def with_encoder(model: ImageModel, encoder: ImageEncoder) -> ImageModel:
    """A copy of a model with a copy of an encoder."""
    other = deepcopy(model)
    other.encoder = deepcopy(encoder)
    return other


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def table(rows: Sequence[Row]) -> str:
    """Lines of text."""
    lines = [f"{'':26}{'M param':>9}{'GFLOP':>9}{'ms':>8}{'error':>9}{'IoU before':>12}{'IoU truth':>11}"]
    for row in rows:
        ms = "" if row.ms is None else f"{row.ms:.1f}"
        shares = ["" if x is None else f"{x:.3f}" for x in (row.agreement, row.truth)]
        lines.append(
            f"{row.stage:26}{row.parameters:>9.2f}{row.gflop:>9.2f}{ms:>8}{row.error:>9.4f}"
            f"{shares[0]:>12}{shares[1]:>11}"
        )
    return "\n".join(lines)
