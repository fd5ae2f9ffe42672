"""One video of a benchmark, from frames to saved masks and scores."""

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from samvideo.errors import ConfigError, DatasetError, OutputError
from samvideo.evaluation.datasets import open_dataset
from samvideo.evaluation.datasets.base import Dataset, VideoSequence
from samvideo.evaluation.files import MaskSet, write_prediction
from samvideo.evaluation.protocols import ProtocolSchedule, find_protocol
from samvideo.evaluation.results import write_json
from samvideo.evaluation.scoring import VideoScores
from samvideo.io.files import unfinished
from samvideo.io.images import read_rgb
from samvideo.io.mask_pictures import FROM_FILE, MaskRule
from samvideo.io.masks import index_map
from samvideo.io.source import open_video
from samvideo.trackers.base import Tracker
from samvideo.types import BoolArray, Frame, FrameResult

IMAGE_RATE = Fraction(24)


@dataclass(frozen=True)
class Task:
    """What is to be run on every video; small and picklable, so that it can travel to other processes.

    Attributes:
        dataset, root, split: as for `open_dataset`.
        protocol: name of the protocol.
        out: folder of the run.
        objects: the objects to follow and score, all where empty.
        threads: of each worker; results of some libraries depend on it, so it belongs to the run.
        reading: what is known about the masks.
    """

    dataset: str
    root: Path
    split: str
    protocol: str
    out: Path
    objects: tuple[int, ...] = ()
    threads: int = 1
    reading: MaskRule = FROM_FILE

    def open(self) -> Dataset:
        """The data set."""
        return open_dataset(self.dataset, self.root, self.split or None, self.reading)

    def entry_path(self, name: str) -> Path:
        """Where the scores of a finished video are; a video is finished when this file is there."""
        return self.out / "sequences" / f"{name}.json"

    def run(self, dataset: Dataset, tracker: Tracker, name: str) -> None:
        """See `evaluate_video`."""
        evaluate_video(self, dataset, tracker, name)


def choose(sequence: VideoSequence, objects: tuple[int, ...]) -> VideoSequence:
    """The sequence with some of its objects only.

    Raises:
        ConfigError: it has none of them.
    """
    if not objects:
        return sequence
    if not sequence.first_seen.keys() & set(objects):
        raise ConfigError(
            f"{sequence.name} has none of the objects {list(objects)}, only {sorted(sequence.first_seen)}"
        )
    first = {number: index for number, index in sequence.first_seen.items() if number in objects}
    return replace(sequence, first_seen=first, scored={k: v for k, v in sequence.scored.items() if k in objects})


def check_scored(sequence: VideoSequence, remedy: str = "annotate more frames") -> None:
    """Check that ground truth which is there has frames to score.

    Raises:
        DatasetError: it has none, since the first and the last frame do not count.
    """
    if sequence.scored and not any(sequence.scored.values()):
        raise DatasetError(
            f"{sequence.name} has no frame to score: {len(sequence.masks)} annotated, of which the first and the "
            f"last do not count; {remedy}"
        )


def frames_of(sequence: VideoSequence) -> Iterator[Frame]:
    """The frames of a sequence in order.

    Raises:
        DatasetError: it has masks only, or its video has ended early.
        VideoError: an image or the video cannot be read.
    """
    if sequence.video is not None:
        count = 0
        with open_video(sequence.video) as video:
            for frame in video:
                if frame.index >= len(sequence.frames):
                    break
                count = frame.index + 1
                yield frame
        if count < max(sequence.masks, default=0) + 1:
            raise DatasetError(
                f"{sequence.video} has {count} frames, but masks go up to frame "
                f"{max(sequence.masks)}: restore the video"
            )
        return
    if not sequence.images:
        raise DatasetError(
            f"sequence {sequence.name} has masks but no pictures: there is nothing to run a model on"
        )
    for index, path in enumerate(sequence.images):
        yield Frame(index, float(index / IMAGE_RATE), read_rgb(path))


class VideoRun:
    """Runs one tracker over one video; see `evaluate_video`."""

    def __init__(self, task: Task, dataset: Dataset, sequence: VideoSequence) -> None:
        self._dataset, self._sequence = dataset, sequence
        self._protocol = find_protocol(task.protocol)
        self._schedule = ProtocolSchedule(self._protocol, sequence.first_seen, self._masks)
        self._size: tuple[int, int] | None = None
        self._truth = lru_cache(maxsize=1)(lambda index: dataset.truth(sequence, index))

    def _masks(self, index: int) -> Mapping[int, BoolArray] | None:
        if index not in self._sequence.masks:
            return None
        truth = self._truth(index)
        if self._size is not None and truth.shape_hw != self._size:
            raise DatasetError(
                f"{self._sequence.masks[index]} has another size (height, width) than its image, {truth.shape_hw} "
                f"not {self._size}: restore it from the archive"
            )
        found = {number: truth.mask(number) for number in self._sequence.first_seen}
        return {number: mask for number, mask in found.items() if mask is not None}

    def run(self, tracker: Tracker, folder: Path) -> tuple[dict[str, Any], float]:
        """Track, save and score; gives the entry of this video and the seconds spent in the tracker."""
        passes = self._protocol.frames if self._protocol.correction == "offline" else 1
        seconds = 0.0
        for number in range(passes):
            last = number == passes - 1
            scores, spent = self._pass(tracker, folder if last else None)
            seconds += spent
            if not last:
                self._correct_worst(scores)
        entry = scores.conclude()
        if self._protocol.kind == "clicks":
            entry["clicks"] = [
                {"frame": self._sequence.frames[index], "object": self._sequence.labels[number], "xyl": made}
                for (index, number), made in sorted(self._schedule.clicks.items())
                if made
            ]
        return entry, seconds

    def _pass(self, tracker: Tracker, folder: Path | None) -> tuple[VideoScores, float]:
        scores = VideoScores(self._dataset, self._sequence)
        wanted = set(self._sequence.saved)
        seconds, begin = 0.0, time.perf_counter()
        for frame, result in self._schedule.run(tracker, self._watched(frames_of(self._sequence))):
            seconds += time.perf_counter() - begin
            if scores.wants(frame.index) or (folder and frame.index in wanted):
                masks = self._masks_found(result, frame)
                if folder and frame.index in wanted:
                    labels = {number: self._sequence.labels[number] for number in self._sequence.first_seen}
                    write_prediction(folder, self._sequence.frames[frame.index], labels, masks)
                if scores.wants(frame.index):
                    known = np.clip(np.nan_to_num(result.scores), 0, 1).tolist()
                    confidence = dict(zip(result.object_ids, known, strict=True))
                    scores.add(frame.index, masks, self._truth(frame.index), confidence)
            begin = time.perf_counter()
        return scores, max(0.0, seconds - self._reading)

    def _watched(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """The same frames; notes their size, and the time to read them, which is not the tracker's."""
        self._reading = 0.0
        while True:
            begin = time.perf_counter()
            frame = next(frames, None)
            self._reading += time.perf_counter() - begin
            if frame is None:
                return
            self._size = frame.rgb.shape[:2]
            yield frame

    def _masks_found(self, result: FrameResult, frame: Frame) -> MaskSet:
        if self._dataset.apart:
            nothing = np.zeros(frame.rgb.shape[:2], bool)
            tracked = {k: result.mask(k) if k in result.object_ids else nothing for k in self._sequence.first_seen}
            return MaskSet(apart=tracked)
        index = index_map(result.masks, result.object_ids, [float(score) for score in result.scores])
        return MaskSet(index=index.astype(np.uint8))

    def _correct_worst(self, scores: VideoScores) -> None:
        for number, found in scores.objects.items():
            if found.j and min(found.j) < 1:
                worst = found.frames[int(np.argmin(found.j))]
                self._schedule.correct(number, self._sequence.frames.index(worst))


def evaluate_video(task: Task, dataset: Dataset, tracker: Tracker, name: str) -> None:
    """Run one video; its masks and its scores appear under their names only when they are complete.

    Raises:
        SamVideoError: the video is broken or has no frame to score, nothing can be written, or there are masks
            under its name that this evaluation has not written. Nothing of this video is left.
    """
    begin = time.perf_counter()
    sequence = choose(dataset.sequence(name), task.objects)
    check_scored(sequence)
    done = task.out / "predictions" / name
    try:
        with _fresh(done, task.entry_path(name)) as part:
            entry, track_seconds = VideoRun(task, dataset, sequence).run(tracker, part)
            part.replace(done)
            timing = {
                "frames": len(sequence.frames),
                "track_seconds": round(track_seconds, 6),
                "seconds": round(time.perf_counter() - begin, 3),
            }
            write_json(task.entry_path(name), {"result": entry, "timing": timing})
    except OSError as error:
        raise OutputError(f"{done} cannot be written: {error}") from error


@contextmanager
def _fresh(done: Path, entry: Path) -> Iterator[Path]:
    """Yield the folder in which a video's masks are made; the block renames it to `done` and writes `entry`.

    The unfinished entry exists from before the first mask until the entry replaces it, so that the files
    of a killed evaluation are distinguished from those of the user: only the former are removed.
    """
    started, part = unfinished(entry), unfinished(done)
    if not started.exists() and (unknown := next((path for path in (part, done) if path.exists()), None)):
        raise OutputError(
            f"{unknown} was not written by this evaluation: move it away, or choose another folder with -o"
        )
    started.parent.mkdir(parents=True, exist_ok=True)
    started.touch()
    try:
        _remove(part, done)
        part.mkdir(parents=True)
        yield part
    except BaseException:
        _remove(part, done)
        started.unlink(missing_ok=True)
        raise


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
