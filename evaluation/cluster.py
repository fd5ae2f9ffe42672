"""Ray clusters: connecting to one, dividing it among actors, and a pool of workers on it."""

import logging
import math
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from samvideo.errors import ConfigError, SamVideoError
from samvideo.evaluation.shard import ATTEMPTS, Failure, Maker, Outcome, Work, Worker

log = logging.getLogger(__name__)

RAY_PATIENCE = 12.0
"""Seconds until a Ray cluster must have accepted a connection, and answered it."""
RAY_START = 120.0
"""Seconds in which a cluster on this machine must have started; Ray's own 30 are too few on a busy one."""
START_PATIENCE = 60.0
"""Seconds after which a warning names what actors that have not started wait for."""
LATE = "%s has not started in %.0f s: it loads its model, or waits for %s that other programs on the cluster use"


@dataclass(frozen=True)
class Share:
    """What each of `count` equal actors asks of a cluster: cores, and GPUs or a part of one."""

    count: int
    cores: int
    gpus: float

    def actor(self, ray: Any, kind: type, **options: Any) -> Any:
        """Return Ray's class of such actors."""
        return ray.remote(num_cpus=self.cores, num_gpus=self.gpus, **options)(kind)

    def __str__(self) -> str:
        cores = "1 core" if self.cores == 1 else f"{self.cores} cores"
        return f"{cores} and {f'{self.gpus:g} of a' if self.gpus < 1 else '1'} GPU" if self.gpus else cores


def share_of(ray: Any, wanted: int | None, most: int, cores: int = 1, what: str = "workers") -> Share:
    """Divide a cluster among actors, none of which spans nodes.

    Args:
        ray: the module, connected to a cluster.
        wanted: number of actors, None for one on each GPU or, without GPUs, on so many cores.
        most: the number that is useful at most.
        cores: of each.
        what: the actors, for the message.

    Raises:
        ConfigError: so many do not fit into the cluster, and would be waited for without end.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    sizes = [(int(node.get("CPU", 0)) // cores, int(node.get("GPU", 0))) for node in nodes]
    has_gpus = any(gpus for _, gpus in sizes)

    def places(on_gpu: int) -> int:
        return sum(min(places, gpus * on_gpu) if has_gpus else places for places, gpus in sizes)

    count = min(max(places(1), 1) if wanted is None else wanted, most)
    if count > places(count):
        raise ConfigError(
            f"{count} {what} with {Share(count, cores, 0.0)} each: the cluster has places for {places(count)}, ask "
            f"for {'fewer' if cores == 1 else 'fewer, or for fewer threads of each'}"
        )
    on_gpu = next(number for number in range(1, count + 1) if places(number) >= count)
    # Ray rounds shares to four digits, also up, and then the last one would not fit.
    return Share(count, cores, math.floor(1e4 / on_gpu) / 1e4 if has_gpus else 0.0)


class RayPool:
    """One actor per GPU of a Ray cluster, or for its cores; a `Pool`. All nodes need access to data and results.

    Attributes:
        address: of the cluster, "auto" for the one this machine belongs to, None to start one here.
        workers: number of actors, None for the number of GPUs, or else as many as the cores suffice for.
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        self.address, self.workers = address, workers

    def __call__(self, task: Work, make: Maker, names: Sequence[str]) -> Iterator[Outcome]:
        """Run the videos; outcomes are yielded as they finish.

        Raises:
            ConfigError: Ray is not installed, the cluster does not exist, or so many workers do not fit into it.
            SamVideoError: the tracker cannot be created.
        """
        if not names:
            return
        threads = task.threads or 1  # Ray limits the threads of an actor to its cores
        with ray_cluster(self.address, self.workers and self.workers * threads) as ray:
            yield from self._run(ray, share_of(ray, self.workers, len(names), threads), task, make, names)

    def _run(self, ray: Any, share: Share, task: Work, make: Maker, names: Sequence[str]) -> Iterator[Outcome]:
        remote = share.actor(ray, Worker)
        waiting, attempts = deque(names), dict.fromkeys(names, 1)
        running: dict[Any, tuple[Any, str]] = {}
        ready = []
        for _ in range(share.count):
            actor, name = remote.remote(task, make), waiting.popleft()
            ready.append(actor.__ray_ready__.remote())
            running[actor.run.remote(name)] = actor, name
        if not ray.wait(ready, timeout=START_PATIENCE)[0]:
            log.warning(LATE, "the first worker", START_PATIENCE, share)
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
                actor = None
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
                actor = remote.remote(task, make) if actor is None else actor
                running[actor.run.remote(following)] = actor, following
            del actor  # if this was the last reference, Ray ends it, and its cores are free for one that waits


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
