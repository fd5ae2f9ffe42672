"""Serves sessions by several replicas on a Ray cluster, behind one address.

A replica is an actor that runs a whole server. Ray Serve is not used, since a session is on one replica only: its
routing by model id prefers the replicas that have the model, but falls back to any other.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from samvideo.errors import ConfigError, SamVideoError
from samvideo.evaluation.cluster import LATE, START_PATIENCE, Share, cause_of, ray_cluster, share_of
from samvideo.evaluation.shard import enter_folder
from samvideo.interrupt import Interrupt
from samvideo.serving.front import Front, guarded
from samvideo.serving.server import GOODBYE, LOOK, ApiServer, Connection, ServerSettings, check_tokens
from samvideo.serving.service import MakeTracker, sharing
from samvideo.web.server import Server, address_of, listen

log = logging.getLogger(__name__)

RETRY = 5.0  # seconds between two attempts to start a replica


@dataclass(frozen=True)
class ReplicaSettings:
    """How replicas are run.

    Attributes:
        address: of the Ray cluster, "auto" for a running one, None to start one here.
        count: of the replicas, None for one on each GPU of the cluster, or else on each core, as long as each has a
            session of `Limits.sessions`.
    """

    address: str | None = None
    count: int | None = None


class Replica:
    """The actor: a server of the sessions whose ids begin with `name`."""

    def __init__(
        self, name: str, models: Mapping[str, MakeTracker], settings: ServerSettings, folder: Path, local: bool
    ) -> None:
        enter_folder(folder)
        host = "127.0.0.1" if local else _node_address()
        loaded = {model: sharing(make) for model, make in models.items()}
        self._server = ApiServer(loaded, replace(settings, host=host, port=0), name)
        self._server.__enter__()
        self._closed = threading.Event()

    def place(self) -> tuple[str, int]:
        """Host and port of the server, once it answers."""
        parts = urlsplit(self._server.address)
        return str(parts.hostname), int(parts.port or 0)

    def run(self) -> None:
        """Return when the server has ended."""
        while self._server.alive and not self._closed.wait(LOOK):
            pass

    def close(self) -> None:
        """Answer the requests under way, and end."""
        self._server.__exit__()
        self._closed.set()


def _node_address() -> str:
    with ray_cluster("auto") as ray:  # this process belongs to it
        return str(ray.util.get_node_ip_address())


class FrontServer(Server):
    """Context manager: serves the front of the replicas while it is entered.

    Attributes:
        address: without a path, such as http://127.0.0.1:8766.
        tokens: who has one of them is let in.
    """

    def __init__(self, front: Front, settings: ServerSettings) -> None:
        self.tokens = tuple(settings.tokens)
        listener = listen(settings.host, settings.port, "choose another --port or --host")
        self.address = address_of(listener, settings.host)
        app = guarded(front, self.tokens, settings.limits)
        super().__init__(app, listener, connection=Connection, goodbye=GOODBYE)


class Replicas:
    """Starts replicas, replaces those that end, and tells a front of them.

    Args:
        ray: the module, connected to a cluster.
        front: is notified.
        make: starts the actor of a name.
        share: of the cluster, for each replica.
    """

    def __init__(self, ray: Any, front: Front, make: Callable[[str], Any], share: Share) -> None:
        self._ray, self._front, self._make, self._share = ray, front, make, share
        self._started = 0
        self._due: list[float] = [0.0] * share.count  # when replicas that are missing are to be started
        self._starting: dict[Any, tuple[str, Any]] = {}
        self._late: dict[Any, float] = {}  # when to say that one has not started
        self._running: dict[Any, tuple[str, Any]] = {}

    @property
    def missing(self) -> bool:
        """Whether not all replicas are up."""
        return bool(self._due or self._starting)

    def look(self, *, first: bool = False) -> None:
        """Wait for `LOOK` seconds at most for something to happen, and do what it needs.

        Args:
            first: raise what prevents a replica from starting, instead of trying again later.
        """
        now = time.monotonic()
        for due in [due for due in self._due if due <= now]:
            self._due.remove(due)
            name = str(self._started)  # never used again, so that no session of a lost replica is mistaken
            self._started += 1
            actor = self._make(name)
            future = actor.place.remote()
            self._starting[future] = name, actor
            self._late[future] = now + START_PATIENCE
        expected = [*self._starting, *self._running]
        if not expected:  # nothing to wait for, and Ray would return at once
            time.sleep(LOOK)
            return
        ended, _ = self._ray.wait(expected, timeout=LOOK)
        for future in ended:
            if future in self._starting:
                self._start(future, first)
            else:
                self._replace(future)
        for future in [future for future, late in self._late.items() if late <= now]:
            log.warning(LATE, f"replica {self._starting[future][0]}", START_PATIENCE, self._share)
            del self._late[future]

    def _start(self, future: Any, first: bool) -> None:
        name, actor = self._starting.pop(future)
        self._late.pop(future, None)
        try:
            place = self._ray.get(future)
        except self._ray.exceptions.RayError as error:
            cause = cause_of(error)
            if first:
                raise cause if isinstance(cause, SamVideoError) else error from None
            log.warning("replica %s cannot be started, it is tried again: %s", name, cause)
            self._due.append(time.monotonic() + RETRY)
            return
        self._front.add(name, tuple(place))
        self._running[actor.run.remote()] = name, actor

    def _replace(self, future: Any) -> None:
        name, actor = self._running.pop(future)
        self._front.drop(name)
        log.warning("replica %s has ended, its sessions are lost: another one is started", name)
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(actor)
        self._due.append(0.0)

    def close(self) -> list[Any]:
        """Let all replicas end after their requests; returns what is ready when they have."""
        return [actor.close.remote() for _, actor in self._running.values()]


def serve_replicas(
    models: Mapping[str, MakeTracker],
    settings: ServerSettings,
    replicas: ReplicaSettings,
    announce: Callable[[FrontServer], None],
) -> None:
    """As `samvideo.serving.server.serve`, with replicas on a Ray cluster.

    Raises:
        ConfigError: Ray is not installed, there is no such cluster, or it has too few cores.
        SamVideoError: see `serve`.
    """
    tokens = check_tokens(settings.tokens) or (secrets.token_urlsafe(24),)
    settings = replace(settings, tokens=tokens)
    front = Front(settings.limits.json_bytes)
    with (
        ray_cluster(replicas.address, replicas.count) as ray,
        Interrupt() as interrupt,
        FrontServer(front, settings) as server,
    ):
        supervisor = _replicas(ray, front, models, settings, replicas)
        while supervisor.missing and not interrupt.requested:
            supervisor.look(first=True)
        if not interrupt.requested:
            announce(server)
        while not interrupt.requested and server.alive:
            supervisor.look()
        closing = supervisor.close()
        if not interrupt.requested:
            raise SamVideoError("the server ended because of an internal error: see the messages before")
        if closing:
            ray.wait(closing, num_returns=len(closing), timeout=GOODBYE + LOOK)


def _replicas(
    ray: Any, front: Front, models: Mapping[str, MakeTracker], settings: ServerSettings, replicas: ReplicaSettings
) -> Replicas:
    most = settings.limits.sessions
    if (replicas.count or 0) > most:
        raise ConfigError(
            f"{replicas.count} replicas: at most one for each of the {most} sessions of --max-sessions expected"
        )
    share = share_of(ray, replicas.count, most, what="replicas")
    actor = share.actor(ray, Replica, max_concurrency=4)
    own = replace(settings, limits=replace(settings.limits, sessions=most // share.count))
    local, folder = replicas.address is None, Path.cwd()

    def make(name: str) -> Any:
        return actor.remote(name, models, own, folder, local)

    return Replicas(ray, front, make, share)
