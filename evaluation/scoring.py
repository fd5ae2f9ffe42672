"""Score masks: one video at a time, then all videos together."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from samvideo.errors import DatasetError
from samvideo.evaluation.confidence import calibration, presence
from samvideo.evaluation.datasets.base import Dataset, ScoringRule, VideoSequence
from samvideo.evaluation.files import MaskSet, score_frame
from samvideo.evaluation.metrics import ClassScores, ObjectScores, score_masks, statistics

Tree = dict[str, Any]
"""Content of `results.json`; its fields are described in `samvideo.evaluation.results`."""


class VideoScores:
    """Accumulates the scores of one video frame by frame."""

    def __init__(self, dataset: Dataset, sequence: VideoSequence) -> None:
        self._dataset, self._sequence = dataset, sequence
        self._wanted: dict[int, list[int]] = {}
        for number, indices in sequence.scored.items():
            for index in indices:
                self._wanted.setdefault(index, []).append(number)
        self.objects = {number: ObjectScores() for number in sequence.first_seen}
        self._classes = ClassScores()
        self._shape: tuple[int, int] | None = None

    def wants(self, index: int) -> bool:
        """Return whether a frame is scored."""
        return index in self._wanted

    def add(
        self,
        index: int,
        prediction: MaskSet,
        truth: MaskSet | None = None,
        confidence: Mapping[int, float] | None = None,
    ) -> None:
        """Score one frame for which `wants` is true.

        Args:
            index: of the frame.
            prediction: its masks.
            truth: read from the data set if None.
            confidence: of a tracker in its masks, by object; 0 where it has none. None for masks made elsewhere.

        Raises:
            DatasetError: the ground truth is invalid, or the prediction has another size.
        """
        truth = truth or self._dataset.truth(self._sequence, index)
        self._check_sizes(index, truth, prediction)
        numbers = self._wanted[index]
        true, found = truth.areas, prediction.areas
        if self._dataset.rule.until_seen:
            seen = true.keys() | found.keys()
            numbers = [number for number in numbers if self.objects[number].frames or number in seen]
        for number, score in zip(numbers, score_frame(truth, prediction, numbers), strict=True):
            areas = true.get(number, 0), found.get(number, 0)
            predicted = None if confidence is None else confidence.get(number, 0.0)
            self.objects[number].add(self._sequence.frames[index], score, areas, predicted)
        if self._dataset.rule.by_class:
            self._add_classes(truth, prediction)

    def _check_sizes(self, index: int, truth: MaskSet, prediction: MaskSet) -> None:
        path, shape, found = self._sequence.masks[index], truth.shape_hw, prediction.shape_hw
        before = self._shape = self._shape or shape
        if shape != before:
            raise DatasetError(
                f"{path} is {_size(shape)}, the masks before it {_size(before)}: restore it from the archive"
            )
        if None not in (shape, found) and found != shape:
            raise DatasetError(
                f"the prediction for {path} is {_size(found)}, the ground truth {_size(shape)}: either the ground "
                "truth is damaged (compare it with its image), or the predictions were saved at another size"
            )

    def _add_classes(self, truth: MaskSet, prediction: MaskSet) -> None:
        classes: dict[str, list[int]] = {}
        for number, label in self._sequence.labels.items():
            classes.setdefault(self._sequence.groups.get(number, label), []).append(number)
        true_numbers, found_numbers = truth.numbers, prediction.numbers
        shape = truth.shape_hw or prediction.shape_hw or (1, 1)
        ious, in_truth = {}, set()
        for name, numbers in classes.items():
            if not (true_numbers | found_numbers).intersection(numbers):
                continue
            if true_numbers.intersection(numbers):
                in_truth.add(name)
            ious[name] = score_masks(truth.union(numbers, shape), prediction.union(numbers, shape)).j
        self._classes.add(ious, in_truth)

    def conclude(self) -> Tree:
        """Return the entry of this video in `results.json`."""
        entry: Tree = {"frames": len(self._sequence.frames), "objects": {}}
        for number, scores in self.objects.items():
            entry["objects"][self._sequence.labels[number]] = self._object_entry(number, scores)
        if self._dataset.rule.by_class:
            entry["classes"] = asdict(self._classes)
        return entry

    def _object_entry(self, number: int, scores: ObjectScores) -> Tree:
        entry: Tree = {"first_frame": self._sequence.frames[self._sequence.first_seen[number]]}
        if number in self._sequence.groups:
            entry["group"] = self._sequence.groups[number]
        for letter, values in (("J", scores.j), ("F", scores.f)):
            for name, value in statistics(values)._asdict().items():
                entry[f"{letter}_{name}"] = value if math.isfinite(value) else None
        entry["Dice_mean"] = mean(scores.dice)
        entry |= {"frames": scores.frames, "J": scores.j, "F": scores.f, "Dice": scores.dice}
        entry |= {"area": scores.area, "mask_area": scores.mask_area}
        return entry | ({"predicted": scores.predicted} if scores.predicted else {})


def _size(shape_hw: tuple[int, int] | None) -> str:
    return "without masks" if shape_hw is None else f"{shape_hw[1]}x{shape_hw[0]}"


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None; None without any."""
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None


def summarise(sequences: Mapping[str, Tree], rule: ScoringRule) -> Tree:
    """Return the scores of a whole split: means over all objects, and over groups if the benchmark has them."""
    objects = [entry for sequence in sequences.values() for entry in sequence["objects"].values() if entry["J"]]
    keys = [f"{letter}_{name}" for letter in "JF" for name in ("mean", "recall", "decay")]
    scores: Tree = {key: mean(entry[key] for entry in objects) for key in [*keys, "Dice_mean"]}
    scores = {"J&F": mean((scores["J_mean"], scores["F_mean"])), **scores, "objects": len(objects)}
    scores |= presence(objects) | calibration(objects)
    if rule.overall == "G":
        scores = {"G": _groups_mean(objects, scores), **scores}
    if rule.by_class:
        classes = ClassScores()
        for sequence in sequences.values():
            classes.merge(ClassScores(**sequence["classes"]))
        scores |= classes.conclude()
    return scores


def _groups_mean(objects: list[Tree], scores: Tree) -> float | None:
    """Return G of YouTube-VOS, and add J and F of seen and unseen objects to `scores`."""
    parts: list[float | None] = []
    for group in sorted({entry["group"] for entry in objects if "group" in entry}):
        for letter in "JF":
            value = mean(entry[f"{letter}_mean"] for entry in objects if entry.get("group") == group)
            scores[f"{letter}_{group}"] = value
            parts.append(value)
    return mean(parts or (scores["J_mean"], scores["F_mean"]))
