"""All sessions of a server, the models that they share, and the queue in which their steps are computed."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from samvideo.errors import ConfigError
from samvideo.io.tracks import FrameRecord
from samvideo.serving.limits import Limits, Refusal
from samvideo.serving.messages import Health
from samvideo.serving.metrics import Metrics
from samvideo.serving.sessions import Session
from samvideo.trackers.base import Tracker
from samvideo.trackers.sam import SamTracker
from samvideo.types import Frame, FrameResult, Prompt

T = TypeVar("T")
LOOK = 1.0  # seconds between two looks for sessions that have expired

MakeTracker = Callable[[], Tracker]


def sharing(make_tracker: MakeTracker) -> MakeTracker:
    """Load a model once; what is returned makes trackers that share it, each with a state of its own."""
    first = make_tracker()
    if isinstance(first, SamTracker):
        return partial(SamTracker, first.runtime)
    return make_tracker


class Service:
    """The sessions of a server. All methods but `close` belong to the server's thread.

    Steps are computed one at a time, in the order in which they are asked for; as a session has one request under
    way at most, sessions take turns.

    Args:
        models: makes a tracker for a new session, by name of the model; the first one is the default.
        limits: see there.
    """

    def __init__(self, models: Mapping[str, MakeTracker], limits: Limits | None = None) -> None:
        if not models:
            raise ConfigError("no model to serve: at least one expected, such as nano")
        self.models, self.limits, self.metrics = dict(models), limits or Limits(), Metrics()
        self._sessions: dict[str, Session] = {}
        self._steps = ThreadPoolExecutor(1, "samvideo-steps")
        self._others = ThreadPoolExecutor(4, "samvideo-io")
        self.ending = False

    def health(self) -> Health:
        """Whether new sessions are taken."""
        models, count = list(self.models), len(self._sessions)
        return Health(status="ENDING" if self.ending else "UP", models=models, sessions=count)

    def create(self, owner: str, model: str | None = None) -> Session:
        """Open a session; Refusal if that is not possible now."""
        if self.ending:
            raise Refusal(503, "the server shuts down: no new sessions")
        name = next(iter(self.models)) if model is None else model
        if name not in self.models:
            raise Refusal(422, f"model {name!r} is not served here: one of {', '.join(self.models)} expected")
        if len(self._sessions) >= self.limits.sessions:
            raise Refusal(429, f"{len(self._sessions)} sessions are open, as many as allowed: try again later")
        session = Session(owner, name, self.models[name](), self.limits)
        self._sessions[session.id] = session
        self.metrics.opened.labels(name).inc()
        self.metrics.sessions.set(len(self._sessions))
        return session

    def find(self, owner: str, session_id: str) -> Session:
        """The session of an id; Refusal, 404, if its owner has none."""
        session = self._sessions.get(session_id)
        if session is None or session.owner != owner:
            raise Refusal(
                404, f"there is no session {session_id[:60]!r}: it was closed or has expired, create another"
            )
        session.touch()
        return session

    def of(self, owner: str) -> list[Session]:
        """All sessions of an owner."""
        return [session for session in self._sessions.values() if session.owner == owner]

    async def close_session(self, session: Session) -> None:
        """Close a session after the step under way."""
        self._sessions.pop(session.id, None)
        self.metrics.sessions.set(len(self._sessions))
        await self.apart(session.close)

    async def apart(self, act: Callable[[], T]) -> T:
        """Run what takes time but is no step on another thread."""
        return await asyncio.get_running_loop().run_in_executor(self._others, act)

    async def step(self, session: Session, frame: Frame, prompts: Sequence[Prompt] = ()) -> FrameRecord:
        """Track a frame in its turn. Raises SamVideoError."""
        begin = time.perf_counter()

        def act() -> FrameResult:
            self.metrics.queue.observe(time.perf_counter() - begin)
            with self.metrics.step.labels(session.model).time():
                return session.step(frame, prompts)

        with self.metrics.waiting.track_inprogress():
            result = await asyncio.get_running_loop().run_in_executor(self._steps, act)
        session.touch()
        return await self.apart(lambda: FrameRecord.from_result(result))

    async def expire(self) -> None:
        """Close sessions without requests, for as long as the server runs."""
        while True:
            for session in [one for one in self._sessions.values() if one.expires_in <= 0]:
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
        self._others.shutdown()
