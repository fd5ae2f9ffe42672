"""Distribute videos over workers: in this process, in processes of this machine, or on a cluster (`cluster.py`).

The results are the same. A worker creates one tracker and then runs it on video after video. A worker that dies is
replaced, and its video is tried again. The number of threads of a worker is independent of the number of workers,
because results of some libraries depend on it.
"""

import logging
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from samvideo.errors import ConfigError, SamVideoError
from samvideo.evaluation.threads import limit_children, limit_loaded

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often a video is tried if its workers die."""
END_PATIENCE = 10.0
"""Seconds that workers have after SIGTERM to finish their frame and their files."""

Maker = Callable[[], Any]
"""Creates the tracker or the segmenter."""


class Work(Protocol):
    """What is to be run on every video or image; small and picklable, so that it can travel to other processes."""

    @property
    def threads(self) -> int | None:
        """Threads of each worker; None leaves them as they are."""
        ...

    def open(self) -> Any:
        """What a worker needs for all videos, such as the data set."""
        ...

    def run(self, dataset: Any, made: Any, name: str) -> None:
        """Run what a `Maker` made on one video or image; SamVideoError if that fails."""
        ...


@dataclass(frozen=True)
class Failure:
    """Why a video has no result, and the exit code for it."""

    message: str
    exit_code: int = SamVideoError.exit_code

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        """Create a failure from an exception."""
        if isinstance(error, SamVideoError):
            return cls(str(error), error.exit_code)
        return cls(f"{type(error).__name__}: {error}")


Outcome = tuple[str, Failure | None]
Pool = Callable[[Work, Maker, Sequence[str]], Iterator[Outcome]]


class Worker:
    """Runs any number of videos with one tracker.

    Attributes:
        restore: gives libraries the numbers of threads that they had before.
    """

    def __init__(self, task: Work, make: Maker) -> None:
        self._task, self._dataset, self._made = task, task.open(), make()
        self.restore = limit_loaded(task.threads)

    def run(self, name: str) -> Failure | None:
        """Run one video; errors are returned, not raised."""
        try:
            self._task.run(self._dataset, self._made, name)
        except SamVideoError as error:
            return Failure.of(error)
        except Exception as error:
            log.exception("%s failed", name)
            return Failure.of(error)
        return None


def run_here(task: Work, make: Maker, names: Sequence[str]) -> Iterator[Outcome]:
    """Run the videos one after the other in this process; a `Pool`."""
    if not names:
        return
    worker = Worker(task, make)
    try:
        for name in names:
            yield name, worker.run(name)
    finally:
        worker.restore()


def visible_gpus() -> list[str]:
    """Return the CUDA devices of this machine, as CUDA_VISIBLE_DEVICES names them, without loading CUDA."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [card for card in visible.split(",") if card.strip()]
    listed = Path("/proc/driver/nvidia/gpus")
    return [str(index) for index, _ in enumerate(listed.iterdir())] if listed.is_dir() else []


def _serve(channel: Connection, task: Work, make: Maker, card: str | None) -> None:
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C in a terminal reaches the parent only, which then ends its workers
    if card is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = card
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        worker = Worker(task, make)
        while (name := channel.recv()) is not None:
            channel.send(worker.run(name))
    except (EOFError, KeyboardInterrupt):
        return
    except SamVideoError as error:  # the tracker cannot be created, for any video
        channel.send(error)


def _end_with_parent() -> None:
    """End this worker when its parent is killed: another process may already evaluate the same videos."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@dataclass
class _Process:
    process: BaseProcess
    channel: Connection
    name: str

    @classmethod
    def start(cls, task: Work, make: Maker, card: str | None, name: str) -> "_Process":
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there, task, make, card), daemon=True)
        with limit_children(task.threads):
            process.start()
        there.close()
        here.send(name)
        return cls(process, here, name)

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.channel.close()


class LocalPool:
    """Processes on this machine, which share the GPUs evenly; a `Pool`."""

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise ConfigError(f"at least one worker is needed, not {workers}")
        self._workers = workers

    def __call__(self, task: Work, make: Maker, names: Sequence[str]) -> Iterator[Outcome]:
        """Run the videos; outcomes are yielded as they finish.

        Raises:
            SamVideoError: the tracker cannot be created.
        """
        waiting, attempts = deque(names), dict.fromkeys(names, 1)
        cards = visible_gpus()
        running: dict[int, _Process] = {}

        def start(place: int) -> None:
            if waiting:
                card = cards[place % len(cards)] if cards else None
                running[place] = _Process.start(task, make, card, waiting.popleft())

        try:
            for place in range(min(self._workers, len(names))):
                start(place)
            while running:
                ready = wait([worker.channel for worker in running.values()])
                for place, worker in [(p, w) for p, w in running.items() if w.channel in ready]:
                    outcome = _receive(worker)
                    if isinstance(outcome, SamVideoError):
                        raise outcome
                    if isinstance(outcome, Death):
                        worker.stop()
                        del running[place]
                        if attempts[worker.name] < ATTEMPTS:
                            log.warning("%s: %s; trying again", worker.name, outcome.reason)
                            attempts[worker.name] += 1
                            waiting.appendleft(worker.name)
                        else:
                            yield worker.name, Failure(f"{outcome.reason}, {ATTEMPTS} times over")
                        start(place)
                        continue
                    finished = worker.name
                    if waiting:
                        worker.name = waiting.popleft()
                        worker.channel.send(worker.name)
                    else:
                        worker.stop()
                        del running[place]
                    yield finished, outcome
        finally:
            for worker in running.values():
                worker.process.terminate()
            for worker in running.values():
                worker.process.join(END_PATIENCE)
                worker.stop()


@dataclass(frozen=True)
class Death:
    """A worker has died."""

    reason: str


def _receive(worker: _Process) -> "Failure | SamVideoError | Death | None":
    try:
        outcome: Failure | SamVideoError | None = worker.channel.recv()
    except (EOFError, OSError):
        worker.process.join()
        return Death(f"its worker died (exit code {worker.process.exitcode})")
    return outcome


def enter_folder(folder: Path) -> None:
    """Go to the folder where relative paths begin, as a worker of a cluster starts elsewhere.

    Raises:
        ConfigError: it is not there.
    """
    try:
        os.chdir(folder)
    except OSError as error:
        raise ConfigError(
            f"a worker has no folder {folder} ({error.strerror}): all nodes of a cluster need the same files at "
            "the same paths"
        ) from error
