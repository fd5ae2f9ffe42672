"""Thumbnails of single frames with the outlines of prediction and ground truth."""

from pathlib import Path

import cv2
import numpy as np
from pydantic import BaseModel, TypeAdapter

from samvideo.errors import ConfigError, SamVideoError
from samvideo.evaluation.datasets import open_dataset
from samvideo.evaluation.datasets.base import VideoSequence
from samvideo.evaluation.files import read_prediction
from samvideo.evaluation.video import frames_of
from samvideo.geometry import fit_size, resize_rgb
from samvideo.io.images import read_rgb
from samvideo.io.schema import read_json
from samvideo.types import BoolArray, UInt8Array

LONGEST = 420  # pixels, the longer side
TRUTH, PREDICTION = (0, 200, 0), (230, 0, 0)  # RGB


class _Run(BaseModel):
    dataset: str
    root: str
    split: str


_RUN = TypeAdapter(_Run)


class Gallery:
    """The frames of one object of one sequence of a run, if its masks and data set are still there.

    Args:
        folder: of the run.
        sequence: name of the sequence.
        label: of the object.

    Attributes:
        frames: names of all frames, empty if they are gone.
    """

    def __init__(self, folder: Path, sequence: str, label: str) -> None:
        self._predictions = folder / "predictions" / sequence
        self.frames: tuple[str, ...] = ()
        try:
            run = read_json(folder / "run.json", _RUN, "the record of an evaluation", ConfigError)
            self._dataset = open_dataset(run.dataset, Path(run.root), run.split)
            if sequence not in self._dataset.sequences():  # the name comes from a results.json
                return
            self._sequence: VideoSequence = self._dataset.sequence(sequence)
        except (OSError, SamVideoError):
            return
        numbers = [number for number, name in self._sequence.labels.items() if name == label]
        if numbers:
            self._number = numbers[0]
            self.frames = self._sequence.frames

    def thumbnail(self, frame: str) -> UInt8Array | None:
        """Draw a frame, uint8 (H, W, 3); None if its image or masks are gone."""
        if frame not in self.frames:
            return None
        index = self.frames.index(frame)
        labels = (
            {self._number: self._sequence.labels[self._number]} if self._dataset.apart else self._sequence.labels
        )
        try:
            rgb = self._rgb(index)
            prediction = read_prediction(self._predictions, frame, labels, self._dataset.apart)
            truth = self._dataset.truth(self._sequence, index)
        except (SamVideoError, StopIteration):
            return None
        return outlined(rgb, *(masks.union([self._number], rgb.shape[:2]) for masks in (truth, prediction)))

    def _rgb(self, index: int) -> UInt8Array:
        if self._sequence.images:
            return read_rgb(self._sequence.images[index])
        return next(frame.rgb for frame in frames_of(self._sequence) if frame.index == index)


def outlined(rgb: UInt8Array, truth: BoolArray, prediction: BoolArray) -> UInt8Array:
    """Return a small copy with the prediction lightly filled and outlined in red, the truth outlined in green."""
    size_wh = fit_size((rgb.shape[1], rgb.shape[0]), LONGEST)
    small: UInt8Array = resize_rgb(rgb, size_wh).copy()
    masks = [
        cv2.resize(mask.astype(np.uint8), size_wh, interpolation=cv2.INTER_AREA) for mask in (prediction, truth)
    ]
    inside = masks[0] > 0
    small[inside] = (0.7 * small[inside] + 0.3 * np.array(PREDICTION)).astype(np.uint8)
    for mask, colour in zip(masks, (PREDICTION, TRUTH), strict=True):
        contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(small, contours, -1, colour, 1, cv2.LINE_AA)
    return small
