"""All sessions of a server, the models that they share, and the threads on which their steps are computed."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from anyio import CancelScope
from anyio.lowlevel import checkpoint_if_cancelled

from samvideo.errors import ConfigError
from samvideo.io.tracks import FrameRecord
from samvideo.runtime import BatchedRuntime, Runtime
from samvideo.serving.batching import BatchingRuntime, Calls
from samvideo.serving.limits import Limits, Refusal
from samvideo.serving.messages import Health
from samvideo.serving.metrics import Metrics
from samvideo.serving.sessions import Session
from samvideo.trackers.base import Tracker
from samvideo.trackers.sam import SamTracker
from samvideo.types import Frame, FrameResult, Prompt

T = TypeVar("T")
MARK = "."  # between the name of a replica and the rest of a session's id
LOOK = 1.0  # seconds between two looks for sessions that have expired

MakeTracker = Callable[[], Tracker]


@dataclass(frozen=True)
class Shared:
    """Makes trackers that share a runtime, each with a state of its own."""

    runtime: Runtime

    def __call__(self) -> Tracker:
        """Make one."""
        return SamTracker(self.runtime)


def sharing(make_tracker: MakeTracker) -> MakeTracker:
    """Load a model once; what is returned makes trackers that share it, each with a state of its own.

    That holds for a `SamTracker`; other trackers are created every time.
    """
    first = make_tracker()
    if isinstance(first, SamTracker):
        return Shared(first.runtime)
    return make_tracker


class Service:
    """The sessions of a server. All methods but `end` belong to the server's thread.

    All is computed on one thread: whole steps, in the order in which they are asked for. Those of models that
    compute in batches run on other threads, which pass the stages on to that one, see `samvideo.serving.batching`.
    As a session has one request under way at most, sessions take turns.

    Args:
        models: makes a tracker for a new session, by name of the model; the first one is the default.
        limits: see there.
        batch: the most frames of different sessions that are computed as one, 1 for none; None leaves that to the
            runtimes of the models.
        replica: name of this service among several, with which the ids of its sessions begin.

    Raises:
        ConfigError: no model; or a batch of several frames, and no model that `sharing` has loaded on a
            `BatchedRuntime`.
    """

    def __init__(
        self,
        models: Mapping[str, MakeTracker],
        limits: Limits | None = None,
        batch: int | None = None,
        replica: str | None = None,
    ) -> None:
        if not models:
            raise ConfigError("no model to serve: at least one expected, such as nano")
        self.limits, self.metrics = limits or Limits(), Metrics()
        self._prefix = "" if replica is None else f"{replica}{MARK}"
        self._sessions: dict[str, Session] = {}
        self._opening = 0  # sessions whose trackers are being made
        self._computing = ThreadPoolExecutor(1, "samvideo-computing")
        self._calls = Calls(self._computing, self.metrics.observe_batch)
        self._batching = _in_batches(models, batch, self._calls)
        batching = {name: Shared(runtime) for name, runtime in self._batching.items()}
        self.models: dict[str, MakeTracker] = {**models, **batching}
        most = max((runtime.frames for runtime in self._batching.values()), default=1)
        self._steps = ThreadPoolExecutor(2 * most, "samvideo-steps")  # one batch gathers while another is computed
        self._others = ThreadPoolExecutor(4, "samvideo-io")
        self._videos = ThreadPoolExecutor(self.limits.sessions, "samvideo-video")  # each reads once at a time
        self._fetches = ThreadPoolExecutor(4, "samvideo-fetch")
        self.ending = False

    def health(self) -> Health:
        """Whether new sessions are taken."""
        models, count = list(self.models), len(self._sessions)
        return Health(status="ENDING" if self.ending else "UP", models=models, sessions=count)

    async def create(self, owner: str, model: str | None = None) -> Session:
        """Open a session; Refusal if that is not possible now."""
        if self.ending:
            raise Refusal(503, "the server is shutting down: no new sessions")
        name = next(iter(self.models)) if model is None else model
        if name not in self.models:
            raise Refusal(422, f"model {name!r} is not served here: one of {', '.join(self.models)} expected")
        if (count := len(self._sessions) + self._opening) >= self.limits.sessions:
            raise Refusal(429, f"{count} sessions are open, as many as allowed: try again later")
        self._opening += 1
        try:
            tracker = await self.apart(self.models[name])
        finally:
            self._opening -= 1
        session = Session(owner, name, tracker, self.limits, self._prefix)
        self._sessions[session.id] = session
        self.metrics.opened.labels(name).inc()
        self.metrics.sessions.set(len(self._sessions))
        return session

    def find(self, owner: str, session_id: str) -> Session:
        """The session of an id; Refusal, 404, if its owner has none."""
        session = self._sessions.get(session_id)
        if session is None and not session_id.startswith(self._prefix) and MARK in session_id:
            raise Refusal(
                404, f"session {session_id[:60]!r} is lost: its replica has ended; create another session"
            )
        if session is None or session.owner != owner:
            raise Refusal(
                404, f"there is no session {session_id[:60]!r}: it was closed or has expired, create another"
            )
        return session

    def of(self, owner: str) -> list[Session]:
        """All sessions of an owner."""
        return [session for session in self._sessions.values() if session.owner == owner]

    async def close_session(self, session: Session) -> None:
        """Close a session after the step under way."""
        try:
            await self.read(session.close)  # which waits for what is read
        except Exception:  # what can be released is
            logging.getLogger(__name__).exception("a session was not closed properly")
        self._sessions.pop(session.id, None)
        self.metrics.sessions.set(len(self._sessions))

    async def apart(self, act: Callable[[], T]) -> T:
        """Run what takes time but is no step, and reads no video, on another thread."""
        return await _finished(self._others, act)

    async def read(self, act: Callable[[], T]) -> T:
        """Run what reads a session's video, or waits for that, where no session waits for another.

        A seek may decode all of a video.
        """
        return await _finished(self._videos, act)

    async def fetch(self, act: Callable[[], T]) -> T:
        """Run what waits for another server on a thread of its own kind, so that nothing else waits for it."""
        return await _finished(self._fetches, act)

    async def step(
        self, session: Session, frame: Frame, make_prompts: Callable[[], Sequence[Prompt]] = tuple
    ) -> FrameRecord:
        """Track a frame in its turn, when prompts are made, too. Raises SamVideoError."""
        begin = time.perf_counter()

        def act() -> FrameResult:
            begun = time.perf_counter()
            self._calls.waited()  # from now on
            try:
                return session.step(frame, make_prompts())
            finally:
                waited = self._calls.waited()
                self.metrics.queue.observe(begun - begin + waited)
                self.metrics.step.labels(session.model).observe(time.perf_counter() - begun - waited)

        pool = self._steps if session.model in self._batching else self._computing
        with self.metrics.waiting.track_inprogress():
            result = await _finished(pool, act)
        session.touch()
        return await self.apart(lambda: FrameRecord.from_result(result))

    async def expire(self) -> None:
        """Close sessions without requests, for as long as the server runs."""
        while True:
            for session in list(self._sessions.values()):
                if session.expires_in <= 0 and not session.busy:
                    self.metrics.expired.inc()
                    await self.close_session(session)
            await asyncio.sleep(LOOK)

    def end(self) -> None:
        """Let running propagations end after their next frame, and refuse new sessions."""
        self.ending = True

    async def close(self) -> None:
        """Close all sessions and threads; called when all requests are answered."""
        self.end()
        for session in list(self._sessions.values()):
            await self.close_session(session)
        self._steps.shutdown()
        self._computing.shutdown()  # after the steps, which need it to their end
        self._videos.shutdown()
        self._others.shutdown()
        self._fetches.shutdown()


def _in_batches(models: Mapping[str, MakeTracker], batch: int | None, calls: Calls) -> dict[str, BatchingRuntime]:
    """The runtimes of those models whose frames are to be computed in batches, by name."""
    runtimes = {name: make.runtime for name, make in models.items() if isinstance(make, Shared)}
    able = {name: runtime for name, runtime in runtimes.items() if isinstance(runtime, BatchedRuntime)}
    if batch is not None and batch > 1 and not able:
        raise ConfigError(
            f"batches of {batch} frames: none of {', '.join(models)} computes several frames at once, as models of "
            "the SAM family do in PyTorch: leave --batch out"
        )
    sizes = {name: batch or runtime.frames_at_once for name, runtime in able.items()}
    return {name: BatchingRuntime(able[name], calls, size) for name, size in sizes.items() if size > 1}


async def _finished(pool: ThreadPoolExecutor, act: Callable[[], T]) -> T:
    """Run on a thread of a pool, to its end also if the client disconnects: its session is in use until then."""
    await checkpoint_if_cancelled()  # no more is begun for a client that has gone
    running = asyncio.get_running_loop().run_in_executor(pool, act)
    with CancelScope(shield=True):
        await asyncio.wait([running])
    return running.result()
