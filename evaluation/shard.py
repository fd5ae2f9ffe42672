"""Distribute videos over workers: in this process, in processes of this machine, or on a Ray cluster.

The results are the same. A worker creates one tracker and then runs it on video after video. A worker that dies is
replaced, and its video is tried again. The number of threads of a worker is independent of the number of workers,
because results of some libraries depend on it.
"""

import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import cv2

from samvideo.errors import ConfigError, SamVideoError
from samvideo.evaluation.threads import limit_children, limit_loaded

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often a video is tried if its workers die."""
RAY_PATIENCE = 12.0
"""Seconds until a Ray cluster must have accepted a connection, and answered it."""
RAY_START = 120.0
"""Seconds in which a cluster on this machine must have started; Ray's own 30 are too few on a busy one."""
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
    """Runs any number of videos with one tracker."""

    def __init__(self, task: Work, make: Maker) -> None:
        self._task, self._dataset, self._made = task, task.open(), make()
        limit_loaded(task.threads)

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
    before = cv2.getNumThreads()
    try:
        worker = Worker(task, make)
        for name in names:
            yield name, worker.run(name)
    finally:
        if task.threads is not None:
            limit_loaded(before)


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


class RayPool:
    """One actor per GPU or core of a Ray cluster; a `Pool`. All nodes need access to data and results.

    Attributes:
        address: of the cluster, "auto" for the one this machine belongs to, None to start one here.
        workers: number of actors, None for the number of GPUs or else cores of the cluster.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        self.address, self.workers = address, workers

    def __call__(self, task: Work, make: Maker, names: Sequence[str]) -> Iterator[Outcome]:
        """Run the videos; outcomes are yielded as they finish.

        Raises:
            ConfigError: Ray is not installed, or the cluster does not exist.
            SamVideoError: the tracker cannot be created.
        """
        with ray_cluster(self.address, self.workers) as ray:
            yield from self._run(ray, task, make, names)

    def _run(self, ray: Any, task: Work, make: Maker, names: Sequence[str]) -> Iterator[Outcome]:
        resources = ray.cluster_resources()
        cards = int(resources.get("GPU", 0))
        count = min(self.workers or cards or int(resources.get("CPU", 1)), len(names))
        # Ray limits the threads of an actor to its cores.
        remote = ray.remote(num_cpus=task.threads or 1, num_gpus=min(1.0, cards / count) if cards and count else 0)(
            Worker
        )
        waiting, attempts = deque(names), dict.fromkeys(names, 1)
        running: dict[Any, tuple[Any, str]] = {}
        for _ in range(count):
            actor, name = remote.remote(task, make), waiting.popleft()
            running[actor.run.remote(name)] = actor, name
        while running:
            (future,), _ = ray.wait(list(running), num_returns=1)
            actor, name = running.pop(future)
            try:
                outcome = ray.get(future)
            except ray.exceptions.RayTaskError as error:  # raised by the constructor
                raise error.cause if isinstance(error.cause, SamVideoError) else error from None
            except ray.exceptions.RayActorError as error:
                if isinstance(cause := cause_of(error), SamVideoError):
                    raise cause from None
                actor = remote.remote(task, make)
                if attempts[name] < ATTEMPTS:
                    log.warning("%s: its worker died; trying again", name)
                    attempts[name] += 1
                    waiting.appendleft(name)
                else:
                    yield name, Failure(f"its worker died, {ATTEMPTS} times over")
            else:
                yield name, outcome
            if waiting:
                following = waiting.popleft()
                running[actor.run.remote(following)] = actor, following


@contextmanager
def ray_cluster(address: str | None, cores: int | None = None) -> Iterator[Any]:
    """Connect to a Ray cluster and yield the module `ray`; one that exists already in this process is used.

    Args:
        address: of the cluster, "auto" for the one this machine belongs to, None to start one here and stop it at
            the end.
        cores: of one that is started, None for those of the machine.

    Raises:
        ConfigError: Ray is not installed, or the cluster does not exist.
    """
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "Ray is not installed: pip install 'samvideo[ray]', or leave --ray out to use this machine only"
        ) from None
    if ray.is_initialized():
        yield ray
        return
    if address is not None:
        _check_cluster(address)
    else:
        os.environ.setdefault("RAY_raylet_start_wait_time_s", f"{RAY_START:.0f}")
    on_term = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, num_cpus=None if address else cores, log_to_driver=False)
    except Exception as error:  # Ray has no type for a cluster that does not start in time
        where = "could be started on this machine" if address is None else f"at {address!r}"
        raise ConfigError(f"no Ray cluster {where}: {error}") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_term)  # which Ray has replaced
    try:
        yield ray
    finally:
        ray.shutdown()


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


def _check_cluster(address: str) -> None:
    """Raise ConfigError unless a cluster answers within `RAY_PATIENCE`; Ray itself waits for minutes.

    Another process tries it, since Ray cannot be interrupted, and does not run well in another thread.
    """
    try:
        if address != "auto":
            parts = urlsplit(f"//{address.removeprefix('ray://')}")
            if not parts.hostname or parts.port is None:
                raise ValueError("not auto or HOST:PORT")
            socket.create_connection((parts.hostname, parts.port), RAY_PATIENCE).close()
        command = [sys.executable, "-c", "import sys, ray; ray.init(sys.argv[1])", address]
        subprocess.run(command, capture_output=True, check=True, timeout=RAY_PATIENCE)
        return
    except (OSError, ValueError) as error:
        reason = str(error)
    except subprocess.TimeoutExpired:
        reason = f"no answer in {RAY_PATIENCE:.0f} s"
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.decode(errors="replace").splitlines() or ["it refuses"])[-1]
    raise ConfigError(
        f"no Ray cluster at {address!r} ({reason}): give auto or the HOST:PORT of a running one, or leave --ray out"
    )


def cause_of(error: Any) -> BaseException:
    """Return the exception behind one of Ray's, which the constructor of an actor has raised, or that one."""
    cause: BaseException | None = getattr(error, "cause", None) or error.__cause__
    return getattr(cause, "cause", cause) or error
