"""One video of a benchmark, from frames to saved masks and scores."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import tee
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
    """Runs one tracker over one video; see `evaluate_video`.

    Args:
        task: what is run.
        dataset, sequence: of the video.
        tracker: is reset.
        folder: for the masks.
        clock: seconds; stands still while something is done that is not counted as the tracker's time.

    Attributes:
        seconds: spent in the tracker so far.
    """

    def __init__(
        self,
        task: Task,
        dataset: Dataset,
        sequence: VideoSequence,
        tracker: Tracker,
        folder: Path,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.task, self.folder, self.seconds = task, folder, 0.0
        self._dataset, self._sequence, self._tracker, self._clock = dataset, sequence, tracker, clock
        self._protocol = find_protocol(task.protocol)
        self._schedule = ProtocolSchedule(self._protocol, sequence.first_seen, self._masks)
        self._size: tuple[int, int] | None = None
        self._truth = lru_cache(maxsize=1)(lambda index: dataset.truth(sequence, index))
        self._scores = VideoScores(dataset, sequence)

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

    @property
    def passes(self) -> int:
        """How often the video is tracked."""
        return self._protocol.frames if self._protocol.correction == "offline" else 1

    def entry(self) -> dict[str, Any]:
        """The scores of the last pass."""
        entry = self._scores.conclude()
        if self._protocol.kind == "clicks":
            entry["clicks"] = [
                {"frame": self._sequence.frames[index], "object": self._sequence.labels[number], "xyl": made}
                for (index, number), made in sorted(self._schedule.clicks.items())
                if made
            ]
        return entry

    def track(self, frames: Iterator[Frame], *, last: bool) -> Iterator[None]:
        """One pass, frame by frame; the masks of the `last` one are saved."""
        self._scores = scores = VideoScores(self._dataset, self._sequence)
        wanted = set(self._sequence.saved) if last else set()
        seconds, begin = 0.0, self._clock()
        for frame, result in self._schedule.run(self._tracker, self._watched(frames)):
            seconds += self._clock() - begin
            if scores.wants(frame.index) or frame.index in wanted:
                masks = self._masks_found(result, frame)
                if frame.index in wanted:
                    labels = {number: self._sequence.labels[number] for number in self._sequence.first_seen}
                    write_prediction(self.folder, self._sequence.frames[frame.index], labels, masks)
                if scores.wants(frame.index):
                    known = np.clip(np.nan_to_num(result.scores), 0, 1).tolist()
                    confidence = dict(zip(result.object_ids, known, strict=True))
                    scores.add(frame.index, masks, self._truth(frame.index), confidence)
            yield
            begin = self._clock()
        self.seconds += max(0.0, seconds - self._reading)
        if not last:
            self._correct_worst(scores)

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
    evaluate_together((task,), dataset, (tracker,), name)


def evaluate_together(
    tasks: Sequence[Task],
    dataset: Dataset,
    trackers: Sequence[Tracker],
    name: str,
    shared: Callable[[], float] = lambda: 0.0,
) -> None:
    """As `evaluate_video`, with several trackers side by side, which get the same frames.

    Args:
        tasks: of one data set and protocol, each with a folder of its own.
        dataset: of the tasks.
        trackers: one for each task.
        name: of the video.
        shared: seconds spent so far on what is done once for all trackers; counted in the time of each.
    """
    begin, before = time.perf_counter(), shared()
    sequence = choose(dataset.sequence(name), tasks[0].objects)
    check_scored(sequence)
    places = {task: task.out / "predictions" / name for task in tasks}
    try:
        with ExitStack() as stack:
            runs = []
            for task, tracker in zip(tasks, trackers, strict=True):
                part = stack.enter_context(_fresh(places[task], task.entry_path(name)))
                runs.append(
                    VideoRun(task, dataset, sequence, tracker, part, lambda: time.perf_counter() - shared())
                )
            _track(runs, sequence)
            together = shared() - before
            for run in runs:
                run.folder.replace(places[run.task])
                timing = {
                    "frames": len(sequence.frames),
                    "track_seconds": round(run.seconds + together, 6),
                    "seconds": round(time.perf_counter() - begin, 3),
                }
                if len(runs) > 1:
                    timing["shared_seconds"] = round(together, 6)
                write_json(run.task.entry_path(name), {"result": run.entry(), "timing": timing})
    except OSError as error:
        raise OutputError(f"{', '.join(map(str, places.values()))} cannot be written: {error}") from error


def _track(runs: Sequence[VideoRun], sequence: VideoSequence) -> None:
    """All passes over a video, frame by frame, each frame by all runs before the next one is read."""
    for number in range(runs[0].passes):
        last = number == runs[0].passes - 1
        copies = tee(frames_of(sequence), len(runs))
        passes = [run.track(frames, last=last) for run, frames in zip(runs, copies, strict=True)]
        for _ in zip(*passes, strict=True):
            pass


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
        if entry.exists():  # what is finished stays, whatever happens to another one
            raise
        _remove(part, done)
        started.unlink(missing_ok=True)
        raise


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
