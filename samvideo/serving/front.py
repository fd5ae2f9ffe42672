"""The front of several replicas: one address for their sessions.

Each replica is a whole server with sessions of its own, whose ids begin with its name. So a request of a session
goes to the one replica that has it, or is refused; it never goes to another one. Bodies and responses are passed on
as they come.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

from samvideo.serving.app import Gate, failure
from samvideo.serving.forward import Headers, Upstream, fetch, forward
from samvideo.serving.limits import Limits, Refusal
from samvideo.serving.metrics import CONTENT_TYPE, join_metrics
from samvideo.serving.service import MARK
from samvideo.web.guard import App, Receive, Scope, Send

Answer = tuple[int, Headers, bytes]
JSON: Headers = [(b"content-type", b"application/json")]
SILENT = "no replica answers now: ask again in some seconds"
FULL = (429, 503)  # of a replica that takes no more sessions


class Front:
    """ASGI application that forwards requests to replicas. `add` and `drop` may be called on any thread.

    Args:
        most: bytes of the body of a request for a session.
    """

    def __init__(self, most: int = Limits.json_bytes) -> None:
        self._most = most
        self._replicas: dict[str, tuple[str, int]] = {}
        self._open: defaultdict[str, set[Callable[[], None]]] = defaultdict(set)
        self._lock = Lock()

    def add(self, name: str, address: tuple[str, int]) -> None:
        """Forward requests to a replica, too."""
        with self._lock:
            self._replicas[name] = address

    def drop(self, name: str) -> None:
        """Forward no more requests to a replica, and break off those that it has."""
        with self._lock:
            self._replicas.pop(name, None)
            closing = list(self._open.pop(name, ()))
        for close in closing:
            close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        try:
            await self._answer(scope, receive, send)
        except Refusal as error:
            await failure(str(error), error.status)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        if path == "/sessions" and method == "POST":
            if (body := await self._body(receive)) is not None:
                await _respond(send, *await self._create(scope, body))
        elif path == "/sessions" and method == "GET":
            await _respond(send, *await self._list(scope))
        elif path == "/health" and method == "GET":
            healths = list((await self._healths()).values())
            joined = healths[0] | {"sessions": sum(health["sessions"] for health in healths)}
            await _respond(send, 200, JSON, json.dumps(joined).encode())
        elif path == "/metrics" and method == "GET":
            answers = await self._ask_all("/metrics")
            texts = {name: body.decode() for name, (_, _, body) in answers.items()}
            await _respond(send, 200, [(b"content-type", CONTENT_TYPE.encode())], join_metrics(texts))
        else:
            async with self._connection(await self._replica_for(path)) as upstream:
                await forward(upstream, scope, receive, send)

    async def _replica_for(self, path: str) -> str:
        """The replica of a session; for a session that is lost, and for anything else, any one, which tells."""
        top, *rest = path.removeprefix("/").split("/")  # a path need not begin with one: `OPTIONS *`
        owner, mark, _ = rest[0].partition(MARK) if top == "sessions" and rest else ("", "", "")
        if mark and owner in self._replicas:
            return owner
        if top == "label-studio":
            return (await self._by_load())[0]
        return self._names()[0]

    def _names(self) -> list[str]:
        if names := list(self._replicas):
            return names
        raise Refusal(503, SILENT)

    def _connection(self, name: str) -> Upstream:
        address = self._replicas.get(name)
        if address is None:
            raise Refusal(503, "the replica has just ended: ask again")
        loop = asyncio.get_running_loop()

        def opened(close: Callable[[], None]) -> Callable[[], None]:
            def on_any_thread() -> None:
                loop.call_soon_threadsafe(close)

            with self._lock:
                self._open[name].add(on_any_thread)
            return lambda: self._open[name].discard(on_any_thread)

        return Upstream(address, opened)

    async def _ask(self, name: str, path: str, headers: Headers, body: bytes = b"", method: str = "GET") -> Answer:
        async with self._connection(name) as upstream:
            return await fetch(upstream, path, headers, body, method)

    async def _ask_all(self, path: str, headers: Headers = ()) -> dict[str, Answer]:
        """Status, headers and body of the responses of all replicas that answer, by name."""
        names = self._names()
        answers = await asyncio.gather(*(self._ask(n, path, headers) for n in names), return_exceptions=True)
        found = {n: got for n, got in zip(names, answers, strict=True) if not isinstance(got, BaseException)}
        if not found:
            raise Refusal(503, SILENT)
        return found

    async def _healths(self) -> dict[str, Any]:
        answers = await self._ask_all("/health")
        return {name: json.loads(body) for name, (_, _, body) in answers.items()}

    async def _by_load(self) -> list[str]:
        """The replicas, first the one with the fewest sessions."""
        healths = await self._healths()
        return sorted(healths, key=lambda name: healths[name]["sessions"])

    async def _create(self, scope: Scope, body: bytes) -> Answer:
        """Create a session where there are the fewest; where one is full, on the next."""
        answer: Answer | None = None
        for name in await self._by_load():
            try:
                answer = await self._ask(name, "/sessions", scope["headers"], body, "POST")
            except Refusal:  # it has just ended
                continue
            if answer[0] not in FULL:
                return answer
        if answer is None:
            raise Refusal(503, SILENT)
        return answer

    async def _body(self, receive: Receive) -> bytes | None:
        """The body of a request; None if its client has gone before its end."""
        body, more = b"", True
        while more:
            if (message := await receive())["type"] == "http.disconnect":
                return None
            body, more = body + message.get("body", b""), message.get("more_body", False)
            if len(body) > self._most:
                raise Refusal(413, f"the body is too large: at most {self._most} bytes expected")
        return body

    async def _list(self, scope: Scope) -> Answer:
        sessions = []
        for status, headers, body in (await self._ask_all("/sessions", scope["headers"])).values():
            if status != 200:
                return status, headers, body
            sessions += json.loads(body)
        return 200, JSON, json.dumps(sessions).encode()


async def _respond(send: Send, status: int, headers: Headers, body: bytes) -> None:
    headers = [(name, value) for name, value in headers if name != b"content-length"]
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


def guarded(front: Front, tokens: Sequence[str], limits: Limits) -> App:
    """The front for those who have a token; answers are counted by the replicas."""
    return Gate(front, tokens, limits)
