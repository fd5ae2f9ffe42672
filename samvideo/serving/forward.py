"""Forwards requests to another server, and bodies and responses as they come. The only file that imports h11."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import h11

from samvideo.serving.limits import Refusal
from samvideo.web.guard import Receive, Scope, Send

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

CONNECT_SECONDS = 5.0  # until a replica must have accepted a connection
CHUNK = 1 << 16
HOP = frozenset(
    {b"connection", b"expect", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"}
)
"""Headers of one connection, which are not passed on."""
CLOSE, HOST = (b"connection", b"close"), (b"host", b"replica")
LOST = b'event: error\ndata: {"error": "the replica of this session has ended: create another session"}\n\n'


class Upstream:
    """A connection to a replica, for one request.

    Args:
        address: host and port.
        opened: called with what closes the connection from outside, and returns what is to be called at its end.

    Raises:
        Refusal: 503, when it is entered and the replica does not answer.
    """

    def __init__(
        self, address: tuple[str, int], opened: Callable[[Callable[[], None]], Callable[[], None]]
    ) -> None:
        self._address, self._opened = address, opened
        self._protocol = h11.Connection(h11.CLIENT)

    async def __aenter__(self) -> "Upstream":
        connecting = asyncio.open_connection(*self._address)
        try:
            self._reader, self._writer = await asyncio.wait_for(connecting, CONNECT_SECONDS)
        except (OSError, asyncio.TimeoutError) as error:
            raise _silent() from error
        self._forget = self._opened(self._writer.transport.abort)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._forget()
        self._writer.transport.abort()

    async def send(self, event: Any) -> None:
        """Send a part of the request; an end of the connection shows when the response is read."""
        with suppress(OSError, h11.LocalProtocolError):
            self._writer.write(self._protocol.send(event) or b"")
            await self._writer.drain()

    async def head(self) -> Any:
        """The head of the response; Refusal, 503, if there is none."""
        while True:
            event = await self._next()
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise _silent()

    async def body(self) -> AsyncIterator[bytes]:
        """The parts of the response's body; EOFError if it breaks off."""
        while not isinstance(event := await self._next(), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                raise EOFError
            yield bytes(event.data)

    async def _next(self) -> Any:
        try:
            while (event := self._protocol.next_event()) is h11.NEED_DATA:
                self._protocol.receive_data(await self._reader.read(CHUNK))
        except (OSError, h11.RemoteProtocolError):
            return None
        return event


async def forward(upstream: Upstream, scope: Scope, receive: Receive, send: Send) -> None:
    """Forward a request; ends when it is answered or its client has gone. Refusal, 503, if there is no answer."""
    complete = asyncio.Event()  # all of the request has been read
    sending = asyncio.create_task(_send_request(upstream, scope, receive, complete))
    answering = asyncio.create_task(_answer(upstream, send, complete))
    try:
        await asyncio.wait([sending, answering], return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            await answering
    finally:
        for task in (sending, answering):
            task.cancel()
        await asyncio.gather(sending, answering, return_exceptions=True)


async def _send_request(upstream: Upstream, scope: Scope, receive: Receive, complete: asyncio.Event) -> None:
    """Send a request on; ends when its client disconnects, or is answered."""
    headers = _onward(scope["headers"])
    if b"transfer-encoding" in dict(scope["headers"]):
        headers.append((b"transfer-encoding", b"chunked"))
    query = scope["query_string"]
    target = scope["raw_path"] + (b"?" + query if query else b"")
    await upstream.send(h11.Request(method=scope["method"], target=target, headers=headers))
    while (message := await receive())["type"] == "http.request":
        if body := message.get("body", b""):
            await upstream.send(h11.Data(data=body))
        if not message.get("more_body", False) and not complete.is_set():
            await upstream.send(h11.EndOfMessage())
            complete.set()


async def _answer(upstream: Upstream, send: Send, complete: asyncio.Event) -> None:
    """Send the response on. One that breaks off ends with an event if it is a stream of events."""
    head = await upstream.head()
    headers = _kept(head.headers)
    if not complete.is_set():  # what is left of the request is not read
        headers.append(CLOSE)
    await send({"type": "http.response.start", "status": head.status_code, "headers": headers})
    in_events = b"text/event-stream" in dict(headers).get(b"content-type", b"")
    rest = b""  # of an event that is not complete yet
    try:
        async for part in upstream.body():
            if in_events:
                before, end, rest = (rest + part).rpartition(b"\n\n")
                part = before + end
            if part:
                await send({"type": "http.response.body", "body": part, "more_body": True})
    except EOFError:
        if not in_events:
            return  # the server closes the connection of a response that is not complete
        rest = LOST
    await send({"type": "http.response.body", "body": rest})


async def fetch(
    upstream: Upstream, path: str, headers: Headers = (), body: bytes = b"", method: str = "GET"
) -> tuple[int, Headers, bytes]:
    """Send a request whose body is known; returns status, headers and body of the response.

    Raises:
        Refusal: 503, there is no response, or not all of it.
    """
    given = [(name, value) for name, value in _onward(headers) if name != b"content-length"]
    length = (b"content-length", str(len(body)).encode())
    await upstream.send(h11.Request(method=method, target=path, headers=[*given, length]))
    await upstream.send(h11.Data(data=body))
    await upstream.send(h11.EndOfMessage())
    head = await upstream.head()
    try:
        content = b"".join([part async for part in upstream.body()])
    except EOFError:
        raise _silent() from None
    return head.status_code, _kept(head.headers), content


def _kept(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name not in HOP]


def _onward(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The headers of a request for a replica, after which its connection ends."""
    host = [] if b"host" in dict(headers) else [HOST]  # HTTP/1.0 has none
    return [*_kept(headers), *host, CLOSE]


def _silent() -> Refusal:
    return Refusal(503, "the replica does not answer now: ask again in some seconds")
