"""Evaluate a tracker on a benchmark, and score masks made elsewhere."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from pydantic import TypeAdapter

from samvideo.errors import ConfigError, DatasetError, SamVideoError
from samvideo.evaluation.datasets import open_dataset
from samvideo.evaluation.datasets.base import MATCHED, Dataset, ScoringRule
from samvideo.evaluation.files import read_prediction
from samvideo.evaluation.matching import MatchedScores, read_tracks
from samvideo.evaluation.protocols import find_protocol
from samvideo.evaluation.results import FORMAT, environment, read_entry, write_archive, write_json, write_results
from samvideo.evaluation.scoring import VideoScores, summarise
from samvideo.evaluation.shard import Failure, Maker, Pool, Work, run_here
from samvideo.evaluation.video import Task, check_scored, choose
from samvideo.io.files import LOCK, unfinished
from samvideo.io.locks import folder_lock
from samvideo.io.mask_pictures import FROM_FILE, MaskRule
from samvideo.io.schema import read_json
from samvideo.policies import parse_policy
from samvideo.resume import weights_digest

log = logging.getLogger(__name__)

RUN = "run.json"
ENTRIES = ("sequences", "images")
"""Folders of a run with one file for each finished video or image."""
_RUN = TypeAdapter(dict[str, Any])

Progress = Callable[[str, int, int], None]
"""Called with the name of a finished video, the number of finished videos, and the number of all videos."""


class ScoredWork(Work, Protocol):
    """Work that leaves a file for each finished video or image."""

    def entry_path(self, name: str) -> Path:
        """Where the scores of a finished video or image are."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """A tracker to be evaluated on a benchmark.

    Attributes:
        task: data set, protocol, folder.
        model: name of the tracker, for the record.
        make: creates the tracker; called once in each worker.
        names: the sequences, in order.
        options: of the tracker, for the record.
    """

    task: Task
    model: str
    make: Maker
    names: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


def choose_sequences(dataset: Dataset, wanted: Sequence[str] = (), limit: int | None = None) -> tuple[str, ...]:
    """Return the sequences to evaluate: the wanted ones (all by default), at most `limit`.

    Raises:
        ConfigError: a name is unknown, or no sequence is left.
    """
    names = dataset.sequences()
    if unknown := [name for name in wanted if name not in names]:
        raise ConfigError(
            f"{dataset.name} {dataset.split} has no sequence {unknown[0]!r}; it has {', '.join(names)}"
        )
    chosen = [name for name in names if not wanted or name in wanted][:limit]
    if not chosen:
        raise ConfigError(f"{dataset.name} {dataset.split} has no sequence to run")
    return tuple(chosen)


def evaluate(
    evaluation: Evaluation, pool: Pool = run_here, progress: Progress = lambda name, done, total: None
) -> dict[str, Any]:
    """Evaluate the sequences that are not finished yet, and write the results of all.

    Raises:
        ConfigError: the folder belongs to another evaluation, lies in the data set or holds it, or another process
            writes into it.
        DatasetError: the data set or the scores of a finished sequence cannot be read.
        OutputError: the folder cannot be written.
    """
    return evaluate_all([evaluation], evaluation.task, evaluation.make, pool, progress)[0]


def evaluate_all(
    evaluations: Sequence[Evaluation],
    work: ScoredWork,
    make: Maker,
    pool: Pool = run_here,
    progress: Progress = lambda name, done, total: None,
) -> list[dict[str, Any]]:
    """As `evaluate`, for evaluations of the same sequences by the same protocol that are run as one work.

    Args:
        evaluations: each with a folder of its own.
        work: runs a sequence for all of them.
        make: creates what `work` runs, in the place of their own `make`.
        pool, progress: as of `evaluate`.
    """
    dataset = evaluations[0].task.open()
    if dataset.rule.matched:
        raise ConfigError(
            f"{dataset.name} gives no prompts: write masks with samvideo track --prompt everything, then score "
            "them with samvideo score"
        )
    find_protocol(evaluations[0].task.protocol)
    for policy in filter(None, (evaluation.options.get("policy") for evaluation in evaluations)):
        if parse_policy(policy).revises:
            raise ConfigError(
                f"policy {policy!r} revises earlier masks, but each is scored as it comes: take another"
            )
    with ExitStack() as stack:
        for evaluation in evaluations:
            task, described = evaluation.task, asdict(evaluation.task)
            del described["out"]
            record = {"format": FORMAT, "model": evaluation.model, "options": evaluation.options, **described}
            stack.enter_context(claimed(task.out, task.root, record))
        failures = run_missing(work, make, evaluations[0].names, pool, progress)
        return [_write(evaluation, dataset, failures) for evaluation in evaluations]


@contextmanager
def claimed(out: Path, root: Path, record: Mapping[str, Any]) -> Iterator[None]:
    """Lock the folder of a run and record what is evaluated there; free it again if nothing was written.

    Args:
        out: the folder.
        root: of the data set, which must not lie in it, nor it in the data set.
        record: content of `run.json`, which must agree with what is there.

    Raises:
        ConfigError, OutputError: see `evaluate`.
    """
    if out.resolve().is_relative_to(root.resolve()) or root.resolve().is_relative_to(out.resolve()):
        raise ConfigError(
            f"{out.resolve()} and the data set {root.resolve()} lie in one another: choose another folder with -o"
        )
    weights = record["options"].get("weights")
    content = {} if weights is None else {"digest of the weights": weights_digest(weights)}
    with folder_lock(out):
        _claim(out, {**record, **content})
        try:
            yield
        except BaseException:
            _give_back(out)
            raise


def run_missing(
    task: ScoredWork, make: Maker, names: Sequence[str], pool: Pool, progress: Progress
) -> dict[str, Failure]:
    """Run what is not finished yet; gives the failures by name."""
    finished = [name for name in names if task.entry_path(name).exists()]
    for count, name in enumerate(finished, 1):
        progress(name, count, len(names))
    missing = [name for name in names if name not in set(finished)]
    failures: dict[str, Failure] = {}
    for count, (name, failure) in enumerate(pool(task, make, missing), len(finished) + 1):
        if failure is not None:
            log.warning("%s failed: %s", name, failure.message)
            failures[name] = failure
        progress(name, count, len(names))
    return failures


def _write(evaluation: Evaluation, dataset: Dataset, found: Mapping[str, Failure]) -> dict[str, Any]:
    """Write the results of an evaluation, and what the server of its benchmark expects."""
    task, names = evaluation.task, evaluation.names
    failures = {name: failure for name, failure in found.items() if not task.entry_path(name).exists()}
    by_class = dataset.rule.by_class
    entries = {name: read_entry(task.entry_path(name), by_class) for name in names if name not in failures}
    protocol = find_protocol(task.protocol)
    results = {
        **_head(dataset, task.objects),
        "protocol": {"name": protocol.name, "description": protocol.describe()},
        "model": {"name": evaluation.model, "options": dict(evaluation.options)},
        **_scores(dataset, {name: entry["result"] for name, entry in entries.items()}, failures),
        "timing": _total({name: entry["timing"] for name, entry in entries.items()}),
        **environment(),
    }
    if not results["scores"]["objects"] and not failures:
        log.warning("nothing was scored: %s has no ground truth for the frames that count", task.root)
    write_results(task.out, results)
    if dataset.archive is not None and not failures and list(names) == dataset.sequences():
        path = task.out / f"{dataset.name}-{dataset.split}.zip"
        write_archive(path, task.out / "predictions", dataset.archive, names)
    return results


def _claim(out: Path, record: Mapping[str, Any]) -> None:
    """Record in the folder what is evaluated there, or check that the record agrees.

    An evaluation that has finished nothing makes way for another.
    """
    path = out / RUN
    wanted = json.loads(json.dumps(record, default=str))
    if not path.exists():
        if any(file.name not in (LOCK, unfinished(path).name) for file in out.iterdir()):
            raise ConfigError(f"{out} is neither empty nor a run of samvideo evaluate: choose another folder")
        write_json(path, wanted)
        return
    found = read_json(path, _RUN, "the record of an evaluation (choose another folder with -o)", ConfigError)
    if found.get("format") not in (FORMAT, wanted["format"]):
        raise ConfigError(f"{path} is not the record of an evaluation: choose another folder with -o")
    different = [key for key in wanted if found.get(key) != wanted[key]]
    if different and not any(True for folder in ENTRIES for _ in (out / folder).rglob("[!.]*.json")):
        write_json(path, wanted)
    elif different:
        key = different[0]
        raise ConfigError(
            f"{out} holds another evaluation: its {key} is {found.get(key)!r}, not {wanted[key]!r}; choose another "
            "folder, or delete this one"
        )


def _give_back(out: Path) -> None:
    """Remove the record of an evaluation that has left nothing else, so that the folder is free again."""
    with suppress(OSError):
        for folder in (out / "predictions", *(out / folder for folder in ENTRIES)):
            if folder.is_dir():
                folder.rmdir()
        if {file.name for file in out.iterdir()} <= {LOCK, RUN}:
            (out / RUN).unlink()


def _total(timing: Mapping[str, Any]) -> dict[str, Any]:
    frames, track_seconds, seconds = (
        sum(part[key] for part in timing.values()) for key in ("frames", "track_seconds", "seconds")
    )
    total = {
        "frames": frames,
        "track_seconds": round(track_seconds, 6),
        "seconds": round(seconds, 3),
        "fps": round(frames / track_seconds, 3) if track_seconds else None,
        "sequences": timing,
    }
    shared = [part.get("shared_seconds") for part in timing.values()]
    if shared and None not in shared:
        total["shared_seconds"] = round(sum(shared), 6)
    return total


def _head(dataset: Dataset, objects: Sequence[int]) -> dict[str, Any]:
    described = {
        "name": dataset.name,
        "split": dataset.split,
        "rule": dataset.rule.description,
        "overall": dataset.rule.overall,
        "objects": list(objects) or None,
    }
    return {"format": FORMAT, "dataset": described}


def _scores(dataset: Dataset, entries: Mapping[str, Any], failures: Mapping[str, Failure]) -> dict[str, Any]:
    return {
        "scores": summarise(entries, dataset.rule),
        "sequences": entries,
        "failed": {name: asdict(failure) for name, failure in failures.items()},
    }


def exit_code_of(results: Mapping[str, Any]) -> int:
    """Return 0 if no video failed, else the highest exit code of a failure."""
    return max((failure["exit_code"] for failure in results["failed"].values()), default=0)


def score(
    name: str,
    root: Path,
    predictions: Path,
    *,
    split: str | None = None,
    sequences: Sequence[str] = (),
    objects: tuple[int, ...] = (),
    ends: bool = False,
    unsupervised: bool = False,
    reading: MaskRule = FROM_FILE,
    progress: Progress = lambda name, done, total: None,
) -> dict[str, Any]:
    """Score masks made by another tool: `<predictions>/<sequence>/<frame>.png`, or a folder per object for SA-V.

    A sequence that cannot be scored is listed under "failed" and left out of the means.

    Args:
        name, root, split, reading: as for `open_dataset`.
        predictions: folder of the masks.
        sequences, objects: names of the sequences and numbers of the objects to score, all if empty.
        ends: also score the first and the last annotated frame, whatever the rule of the benchmark.
        unsupervised: the masks are tracks of any number, to be matched; see `samvideo.evaluation.matching`.
        progress: called after each sequence.

    Raises:
        ConfigError, DatasetError: nothing can be scored.
    """
    dataset = open_dataset(name, root, split, reading)
    _change_rule(dataset, ends, unsupervised)
    if not predictions.is_dir():
        raise DatasetError(f"{predictions} is not a folder: one folder of PNGs per sequence expected in it")
    names = choose_sequences(dataset, sequences)
    entries: dict[str, Any] = {}
    failures: dict[str, Failure] = {}
    for count, sequence in enumerate(names, 1):
        try:
            entries[sequence] = _score_sequence(dataset, sequence, predictions / sequence, objects, ends)
        except SamVideoError as error:
            log.warning("%s failed: %s", sequence, error)
            failures[sequence] = Failure.of(error)
        progress(sequence, count, len(names))
    return {
        **_head(dataset, objects),
        "protocol": {"name": "unknown", "description": "masks made elsewhere; how they were prompted is not known"},
        "model": {"name": predictions.resolve().name, "options": {}},
        **_scores(dataset, entries, failures),
        "timing": None,
        **environment(),
    }


def _change_rule(dataset: Dataset, ends: bool, unsupervised: bool) -> None:
    """Let a data set be scored as `score` says; ConfigError where tracks cannot be matched."""
    if unsupervised and dataset.apart:
        raise ConfigError(f"the objects of {dataset.name} may overlap: leave --unsupervised out")
    if dataset.rule.matched:
        return
    if unsupervised:
        dataset.rule = ScoringRule(f"{dataset.name}: every annotated frame; {MATCHED}", matched=True)
        dataset.name += "-unsupervised"
    elif ends:
        description = f"{dataset.rule.description}; here with the first and the last frame"
        dataset.rule = replace(dataset.rule, description=description)


def _score_sequence(
    dataset: Dataset, name: str, folder: Path, objects: tuple[int, ...], ends: bool
) -> dict[str, Any]:
    sequence = choose(dataset.sequence(name), objects)
    matched = dataset.rule.matched
    if (ends or matched) and sequence.scored:
        sequence = replace(sequence, scored=dict.fromkeys(sequence.scored, tuple(sorted(sequence.masks))))
    if not sequence.scored:
        raise DatasetError(
            f"{name} has ground truth for its first frame only: upload the masks to the server instead"
        )
    check_scored(sequence, "annotate more frames, or score them too with --ends")
    if not folder.is_dir():
        raise DatasetError(f"{folder} is missing: predictions of every sequence expected")
    scores = MatchedScores(dataset, sequence) if matched else VideoScores(dataset, sequence)
    for index in filter(scores.wants, sorted(sequence.masks)):
        frame = sequence.frames[index]
        if matched:
            found = read_tracks(folder, frame, dataset.reading)
        else:
            found = read_prediction(folder, frame, sequence.labels, dataset.apart, dataset.reading)
        scores.add(index, found)
    entry = scores.conclude()
    if not any(found["J"] for found in entry["objects"].values()):
        raise DatasetError(
            f"{name} has no frame to score: no object is in a frame that counts, nor in its prediction"
        )
    return entry
