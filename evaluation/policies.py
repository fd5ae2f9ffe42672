"""Compare memory policies: trackers of one network side by side, for which every frame is encoded once."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from samvideo.errors import ConfigError
from samvideo.evaluation.datasets.base import Dataset
from samvideo.evaluation.evaluate import RUN, Evaluation, Progress, evaluate_all
from samvideo.evaluation.meter import Times, clocked
from samvideo.evaluation.shard import Pool, run_here
from samvideo.evaluation.video import Task, evaluate_together
from samvideo.torch_runtime import TorchFeatures, TorchRuntime
from samvideo.trackers.factory import create_tracker
from samvideo.trackers.sam import SamTracker
from samvideo.types import UInt8Array


class SharedEncoder:
    """Encodes a frame once for all trackers that are given the same array; keeps the newest frame only.

    Args:
        runtime: of the network.

    Attributes:
        seconds: spent so far.
    """

    def __init__(self, runtime: TorchRuntime) -> None:
        self._runtime, self.seconds = runtime, 0.0
        self._newest: tuple[UInt8Array, TorchFeatures] | None = None

    def __call__(self, rgb: UInt8Array) -> TorchFeatures:
        """See `Runtime.encode`."""
        if self._newest is None or self._newest[0] is not rgb:
            self._newest, times = None, Times()  # freed before the next one is made
            features = clocked(times, self._runtime.model.device, partial(self._runtime.encode, rgb))
            self.seconds += times.wall[0]
            self._newest = rgb, features
        return self._newest[1]


class PolicyTrackers:
    """A tracker for each policy, all of one network, and what encodes frames for them.

    Args:
        model: as for `create_tracker`, as the options.
        policies: their names, with options.

    Raises:
        ConfigError, WeightsError: as of `create_tracker`; the model's tracker has no runtime to share.
    """

    def __init__(self, model: str, policies: Sequence[str], **options: Any) -> None:
        tracker = create_tracker(model, policy=policies[0], **options)
        if not isinstance(tracker, SamTracker) or not isinstance(tracker.runtime, TorchRuntime):
            raise ConfigError(f"{model} cannot share its encoding: evaluate one --policy at a time")
        self.encoder = SharedEncoder(tracker.runtime)
        runtimes = map(tracker.runtime.with_policy, policies)
        self.trackers = [SamTracker(runtime, encode=self.encoder) for runtime in runtimes]


@dataclass(frozen=True)
class PolicyTask:
    """The tasks of several policies as one; see `samvideo.evaluation.shard.Work`.

    Attributes:
        tasks: one for each policy, which differ in their folders only.
    """

    tasks: tuple[Task, ...]

    @property
    def threads(self) -> int:
        """See `Work.threads`."""
        return self.tasks[0].threads

    def open(self) -> Dataset:
        """See `Work.open`."""
        return self.tasks[0].open()

    def entry_path(self, name: str) -> Path:
        """See `ScoredWork.entry_path`: of the first policy that has not finished the video, else of the last."""
        paths = [task.entry_path(name) for task in self.tasks]
        return next((path for path in paths if not path.exists()), paths[-1])

    def run(self, dataset: Dataset, made: PolicyTrackers, name: str) -> None:
        """See `Work.run`: with those policies for which the video is not finished."""
        pairs = zip(self.tasks, made.trackers, strict=True)
        missing = [(task, tracker) for task, tracker in pairs if not task.entry_path(name).exists()]
        tasks, trackers = zip(*missing, strict=True)
        evaluate_together(tasks, dataset, trackers, name, lambda: made.encoder.seconds)


def evaluate_policies(
    evaluation: Evaluation, policies: Sequence[str], pool: Pool = run_here, progress: Progress = lambda *_: None
) -> dict[Path, dict[str, Any]]:
    """Evaluate a model with several policies side by side; the results are those of separate evaluations.

    Args:
        evaluation: of the model, without a policy; results are written into subfolders of its folder, which are
            named by the policies.
        policies: their names, with options; no two are equal.
        pool, progress: as of `samvideo.evaluation.evaluate.evaluate`.

    Returns:
        The results by folder.

    Raises:
        ConfigError, DatasetError, OutputError: as of `evaluate`.
    """
    task = evaluation.task
    if (task.out / RUN).exists():
        raise ConfigError(
            f"{task.out} holds an evaluation, and those of several policies would be written into folders in it: "
            "choose another folder with -o"
        )
    tasks = tuple(replace(task, out=task.out / re.sub(r"[^\w.=-]+", "-", policy)) for policy in policies)
    evaluations = [
        replace(evaluation, task=one, options={**evaluation.options, "policy": policy})
        for one, policy in zip(tasks, policies, strict=True)
    ]
    make = partial(PolicyTrackers, evaluation.model, tuple(policies), **evaluation.options)
    results = evaluate_all(evaluations, PolicyTask(tasks), make, pool, progress)
    return {one.out: result for one, result in zip(tasks, results, strict=True)}
