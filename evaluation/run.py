"""Runs of a model over a benchmark, and scores of masks made elsewhere."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from samvideo.errors import ConfigError, DatasetError, OutputError, SamVideoError
from samvideo.evaluation.datasets import open_dataset
from samvideo.evaluation.datasets.base import Dataset
from samvideo.evaluation.files import read_prediction
from samvideo.evaluation.protocols import find_protocol
from samvideo.evaluation.results import FORMAT, environment, unfinished, write_archive, write_json, write_results
from samvideo.evaluation.scoring import score_video, summarise
from samvideo.evaluation.shard import Failure, Maker, Pool, run_here
from samvideo.evaluation.video import Task, choose

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with a finished video's name, how many are finished, and how many there are."""


@dataclass(frozen=True)
class Run:
    """A model over a benchmark.

    Attributes:
        task: data set, protocol, folder.
        model: name, and options, of what `make` makes; only recorded.
        make: makes the tracker; called once in each worker.
        names: the sequences, in order.
    """

    task: Task
    model: str
    make: Maker
    names: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


def choose_sequences(dataset: Dataset, wanted: Sequence[str] = (), limit: int | None = None) -> tuple[str, ...]:
    """The sequences to run: all, the named ones, or the first few.

    Raises:
        ConfigError: an unknown name, or nothing left.
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
    run: Run, pool: Pool = run_here, progress: Progress = lambda name, done, total: None
) -> dict[str, Any]:
    """Run what is not finished yet, then put all together; what was finished before is not touched.

    Raises:
        ConfigError: the folder holds another run.
        OutputError: the folder cannot be written.
    """
    dataset, task = run.task.open(), run.task
    _claim(run)
    finished = [name for name in run.names if task.entry_path(name).exists()]
    missing = [name for name in run.names if name not in set(finished)]
    for count, name in enumerate(finished, 1):
        progress(name, count, len(run.names))
    failures: dict[str, Failure] = {}
    for count, (name, failure) in enumerate(pool(task, run.make, missing), len(finished) + 1):
        if failure is not None:
            log.warning("%s failed: %s", name, failure.message)
            failures[name] = failure
        progress(name, count, len(run.names))
    results = _assemble(run, dataset, failures)
    write_results(task.out, results)
    if dataset.archive is not None and not failures and list(run.names) == dataset.sequences():
        path = task.out / f"{dataset.name}-{dataset.split}.zip"
        write_archive(path, task.out / "predictions", dataset.archive, list(run.names))
    return results


def _claim(run: Run) -> None:
    """Note in the folder what is being run there, or check that it is the same."""
    path = run.task.out / "run.json"
    task = asdict(run.task)
    del task["out"]
    wanted = json.loads(
        json.dumps({"format": FORMAT, "model": run.model, "options": run.options, **task}, default=str)
    )
    if not path.exists():
        if run.task.out.is_dir() and any(file != unfinished(path) for file in run.task.out.iterdir()):
            raise ConfigError(
                f"{run.task.out} is neither empty nor a run of samvideo evaluate: choose another folder"
            )
        write_json(path, wanted)
        return
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): choose another folder, or delete this one") from error
    if different := [key for key in wanted if found.get(key) != wanted[key]]:
        key = different[0]
        raise ConfigError(
            f"{run.task.out} holds another run: its {key} is {found.get(key)!r}, not {wanted[key]!r}; choose "
            "another folder, or delete this one"
        )


def _assemble(run: Run, dataset: Dataset, failures: Mapping[str, Failure]) -> dict[str, Any]:
    entries = {}
    for name in run.names:
        if name not in failures:
            try:
                entries[name] = json.loads(run.task.entry_path(name).read_text())
            except (OSError, ValueError) as error:
                path = run.task.entry_path(name)
                raise OutputError(f"{path} cannot be read ({error}): delete it and run again") from error
    timing = {name: entry["timing"] for name, entry in entries.items()}
    frames, seconds = (sum(part[key] for part in timing.values()) for key in ("frames", "track_seconds"))
    protocol = find_protocol(run.task.protocol)
    return {
        **_head(dataset, run.task.objects),
        "protocol": {"name": protocol.name, "description": protocol.describe()},
        "model": {"name": run.model, "options": dict(run.options)},
        **_body(dataset, {name: entry["result"] for name, entry in entries.items()}, failures),
        "timing": {
            "frames": frames,
            "track_seconds": round(seconds, 6),
            "seconds": round(sum(part["seconds"] for part in timing.values()), 3),
            "fps": round(frames / seconds, 3) if seconds else None,
            "sequences": timing,
        },
        **environment(),
    }


def _head(dataset: Dataset, objects: Sequence[int]) -> dict[str, Any]:
    described = {
        "name": dataset.name,
        "split": dataset.split,
        "rule": dataset.rule.description,
        "overall": dataset.rule.overall,
    }
    return {"format": FORMAT, "dataset": {**described, "objects": list(objects) or None}}


def _body(dataset: Dataset, entries: Mapping[str, Any], failures: Mapping[str, Failure]) -> dict[str, Any]:
    scores = summarise(entries, dataset.rule)
    return {
        "scores": scores,
        "sequences": dict(entries),
        "failed": {name: asdict(failure) for name, failure in failures.items()},
    }


def exit_code_of(results: Mapping[str, Any]) -> int:
    """0 when no video failed, else the highest of their codes."""
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
    progress: Progress = lambda name, done, total: None,
) -> dict[str, Any]:
    """Score masks that another tool made: `<predictions>/<sequence>/<frame>.png`, or a folder per object for SA-V.

    A broken video is listed under "failed" and left out of the means. With `ends`, the first and the last annotated
    frame count as well, whatever the benchmark does.

    Raises:
        ConfigError, DatasetError: nothing can be scored at all.
    """
    dataset = open_dataset(name, root, split)
    if not predictions.is_dir():
        raise DatasetError(f"{predictions} is not a folder: one folder of PNGs per sequence expected in it")
    names = choose_sequences(dataset, sequences)
    entries: dict[str, Any] = {}
    failures: dict[str, Failure] = {}
    for count, sequence in enumerate(names, 1):
        try:
            entries[sequence] = _score_sequence(dataset, sequence, predictions / sequence, objects, ends)
        except SamVideoError as error:
            failures[sequence] = Failure.of(error)
        progress(sequence, count, len(names))
    if ends:
        description = f"{dataset.rule.description}; here with the first and the last frame"
        dataset.rule = replace(dataset.rule, description=description)
    return {
        **_head(dataset, objects),
        "protocol": {"name": "unknown", "description": "masks made elsewhere; how they were prompted is not known"},
        "model": {"name": predictions.resolve().name, "options": {}},
        **_body(dataset, entries, failures),
        "timing": None,
        **environment(),
    }


def _score_sequence(
    dataset: Dataset, name: str, folder: Path, objects: tuple[int, ...], ends: bool
) -> dict[str, Any]:
    clip = choose(dataset.sequence(name), objects)
    if ends and clip.scored:
        whole = dict.fromkeys(clip.scored, tuple(sorted(clip.masks)))
        clip = replace(clip, scored=whole)
    if not clip.scored:
        raise DatasetError(
            f"{name} has ground truth for its first frame only: upload the masks to the server instead"
        )
    if not folder.is_dir():
        raise DatasetError(f"{folder} is missing: predictions of every sequence expected")
    return score_video(
        dataset, clip, lambda index: read_prediction(folder, clip.frames[index], clip.labels, dataset.apart)
    )
