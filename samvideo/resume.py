"""What a run records so that `track --resume` goes on where it was interrupted or killed.

The folder `.resume` beside the results holds the settings that must stay the same, the result of every step of the
tracker, and every few seconds the tracker's state. A resumed run decodes the source from its start and gets the
recorded results instead of tracking, up to the step of the saved state; then the tracker goes on from that state.
All result files are made again in this way, and equal those of an unbroken run.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from samvideo.deploy.manifest import MANIFEST
from samvideo.errors import ConfigError, OutputError, VideoError, WeightsError
from samvideo.io.background import Background
from samvideo.io.base import Closing
from samvideo.io.files import write_atomically
from samvideo.io.schema import read_json
from samvideo.io.tracks import LINES_FORMAT, FrameRecord, TracksFile, header_of
from samvideo.outputs import GrowingFile, json_line
from samvideo.run_folder import RESUME, RESUME_FILES, Listed
from samvideo.trackers.base import Tracker
from samvideo.types import Frame, FrameResult, Prompt, VideoInfo
from samvideo.weights.naming import weight_files

log = logging.getLogger(__name__)

SAVE_SECONDS = 2.0
"""Time between two saved states: at most this much work is done again."""
SAVE_SHARE = 0.05
"""Share of the time that may be spent on saving large states; they are saved less often."""
SAMPLES, SAMPLE_BYTES = 512, 4096  # of the content of a source or model, to tell whether it is the same

_SETTINGS = TypeAdapter(dict[str, str])
_EXPECTED = "the settings of a run (start again with --overwrite)"


class StepRecord(Closing):
    """The steps of a run's tracker in `.resume`: `load` what an earlier run left, `open`, then `add` every step.

    Args:
        folder: of the results.
        info: of the source.
        same: what must be equal when the run is resumed, by name.
    """

    def __init__(self, folder: Path, info: VideoInfo, same: Mapping[str, str]) -> None:
        self._folder, self._info, self._same = folder, info, dict(same)
        self._settings, self._steps, self._state = (folder / RESUME / name for name in RESUME_FILES)
        self._file: GrowingFile | None = None
        self._queue: Background[Callable[[GrowingFile], None]] | None = None
        self._failed = False

    def load(self) -> tuple[Iterator[FrameRecord], int, bytes]:
        """Return the recorded steps before the saved state, their number, and the state; 0 steps if there is none.

        Raises:
            ConfigError: the folder holds no run that can be resumed, or one with other settings.
        """
        if not self._settings.is_file():
            if Listed.of(self._folder).status == "complete":
                raise ConfigError(f"the run in {self._folder} is complete: nothing is left to do")
            raise ConfigError(f"there is no run to resume in {self._folder}: start it without --resume")
        saved = read_json(self._settings, _SETTINGS, _EXPECTED, ConfigError)
        differing = [name for name in saved | self._same if saved.get(name) != self._same.get(name)]
        if differing:
            raise ConfigError(
                f"the run in {self._folder} cannot be resumed: its {' and '.join(differing)} differed; give the "
                "same arguments, or start again with --overwrite"
            )
        try:
            head, _, state = self._state.read_bytes().partition(b"\n")
            with self._steps.open("rb") as file:
                recorded = sum(line.endswith(b"\n") for line in file) - 1  # without the header
        except OSError:
            return iter(()), 0, b""
        steps = int(head) if head.isdigit() else 0
        if not 0 < steps <= recorded:  # a power failure may have lost the end of a file
            return iter(()), 0, b""
        return islice(TracksFile(self._steps).unordered(), steps), steps, state

    def open(self) -> None:
        """Create the files; a record that exists is continued."""
        try:
            write_atomically(self._settings, json.dumps(self._same))
            self._file = GrowingFile(
                self._steps, json_line(header_of(replace(self._info, name="steps"), LINES_FORMAT))
            )
        except (OSError, OutputError) as error:
            self._give_up(error)
            return
        self._queue = Background(self._work)

    def add(self, result: FrameResult) -> None:
        """Append a step."""
        self._put(lambda file: file.append(json_line(FrameRecord.from_result(result).to_json())))

    def save(self, steps: int, state: bytes) -> None:
        """Keep the state after so many steps."""
        self._put(lambda file: write_atomically(self._state, b"%d\n" % steps + state))

    def _put(self, job: Callable[[GrowingFile], None]) -> None:
        if self._queue is not None:
            self._queue.put(job)

    def _work(self, job: Callable[[GrowingFile], None]) -> None:
        """Do a job, unless one has failed."""
        if self._file is None or self._failed:
            return
        try:
            job(self._file)
        except (OSError, OutputError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Record no more: a run does not end because it cannot be resumed."""
        self._failed = True
        log.warning("the run goes on, but can only be resumed from where it was last saved: %s", error)

    def close(self) -> None:
        """Write what is queued and close the files."""
        try:
            if self._queue is not None:
                self._queue.close()
        finally:
            if self._file is not None:
                self._file.close()


class RecordedTracker:
    """A tracker whose steps are recorded, or given from a record; see `Tracker`.

    Scores are rounded as in the record, and logits left out, so that both ways give equal results.

    Args:
        tracker: does the steps that are not recorded yet.
        started: called with the first result, before it is recorded.
        record: None records nothing.
        resume: whether the steps that `record` holds are given again.

    Attributes:
        prompted: how many prompts were given to steps.
    """

    def __init__(
        self, tracker: Tracker, started: Callable[[], None], record: StepRecord | None, *, resume: bool
    ) -> None:
        self.prompted = 0
        self._tracker, self._started, self._record = tracker, started, record
        self._steps, self._next_save = 0, time.perf_counter() + SAVE_SECONDS
        self._recorded, self._replayed, self._state = record.load() if record and resume else (iter(()), 0, b"")

    @property
    def lookahead(self) -> int:
        """See `Tracker.lookahead`."""
        return self._tracker.lookahead

    def step(self, frame: Frame, prompts: Sequence[Prompt] = (), *, upcoming: Frame | None = None) -> FrameResult:
        """See `Tracker.step`."""
        self.prompted += len(prompts)
        if self._steps < self._replayed:
            result = self._recorded_result(frame)
        else:
            result = self._tracker.step(frame, prompts, upcoming=upcoming)
            rounded = np.array([round(float(score), 4) for score in result.scores], np.float32)
            result = replace(result, scores=rounded, logits=None)
        if self._steps == 0:
            self._started()
        self._steps += 1
        if self._record is not None:
            self._record.add(result)
            if self._steps == self._replayed:
                self._tracker.restore(self._state)
                self._state = b""
            elif self._steps > self._replayed:
                self._save(self._record)
        return result

    def _recorded_result(self, frame: Frame) -> FrameResult:
        step = next(self._recorded)
        if step.index != frame.index:
            raise VideoError(
                f"the source has frame {frame.index} where the run to resume had frame {step.index}: it has "
                "changed; start again with --overwrite"
            )
        return replace(step.result(frame.size_wh), seconds=frame.seconds)

    def _save(self, record: StepRecord) -> None:
        begin = time.perf_counter()
        if begin < self._next_save:
            return
        with suppress(ConfigError):  # a tracker that has no state to save is resumed from its start
            record.save(self._steps, self._tracker.state())
        spent = time.perf_counter() - begin
        self._next_save = begin + max(SAVE_SECONDS, spent / SAVE_SHARE)

    def forget(self, object_id: int) -> None:
        """See `Tracker.forget`."""
        self._tracker.forget(object_id)

    def reset(self) -> None:
        """See `Tracker.reset`; the steps go on to be counted."""
        self._tracker.reset()

    def state(self) -> bytes:
        """See `Tracker.state`."""
        return self._tracker.state()

    def restore(self, state: bytes) -> None:
        """See `Tracker.restore`."""
        self._tracker.restore(state)


def files_digest(files: Sequence[Path]) -> str:
    """Return a digest of names, sizes and samples of the content of files; of missing files just the names."""
    digest = hashlib.sha256()
    count = max(1, SAMPLES // len(files))
    for path in files:
        digest.update(path.name.encode(errors="surrogateescape"))
        if not path.is_file():  # reading a pipe would wait, and take what is in it
            continue
        with suppress(OSError):
            size = path.stat().st_size
            digest.update(b"\n%d\n" % size)
            with path.open("rb") as file:
                for number in range(1, count + 1):
                    file.seek(max(0, size - SAMPLE_BYTES) * number // count)
                    digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()


def weights_digest(weights: str) -> str:
    """Return a digest of the files that `weights` mean; of what means none, such as "random", the text.

    Of an exported model it is that of its manifest, which holds the checksums of all its files.
    """
    if (manifest := Path(weights) / MANIFEST).is_file():
        return files_digest([manifest])
    with suppress(WeightsError):
        return files_digest(weight_files(weights))
    return weights


def prompts_digest(prompts: Iterable[Prompt]) -> str:
    """Return a digest of all that prompts hold."""
    digest = hashlib.sha256()
    for prompt in prompts:
        digest.update(type(prompt).__name__.encode())
        for name, value in sorted(vars(prompt).items()):
            if name == "label" and value is None:  # as before there were labels
                continue
            array = np.asarray(value) if value is not None else np.zeros(0)
            digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def same_settings(settings: Any, files: Sequence[Path]) -> dict[str, str]:
    """Return what makes the results of a run, by name; `settings` are its `RunSettings`, `files` its source."""
    same = {name: str(value) for name, value in settings.options.items()}
    weights = settings.options.get("weights")
    if weights is not None:
        same["weights"] = weights_digest(weights)
    segmenter, _, file = (settings.options.get("first_mask") or "").partition("=")
    if file:
        same["first_mask"] = f"{segmenter}={weights_digest(file)}"
    same |= {name: str(getattr(settings, name)) for name in ("model", "start", "end", "stride", "direction")}
    same |= {"--save": ",".join(sorted(set(settings.save))), "--strip-source": str(settings.strip_source)}
    same |= {"window": str(settings.window), "search": str(settings.search)}
    same |= {"source": files_digest(files), "prompts": prompts_digest(settings.prompts)}
    return same | {"version of samvideo": version("samvideo")}
