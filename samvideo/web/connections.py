"""Connections to the page's server: how many there may be, and how long one may wait without a request."""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 96  # connections; a browser opens six, and macOS gives a process 256 files
BACKLOG = 32  # accepted at once, before `MOST` can be applied
PATIENCE = 15.0  # seconds in which a request must be complete up to its body, and between two requests


class LimitedConnection(H11Protocol):
    """One connection. Anybody on this machine can open some, so none that only waits keeps others out.

    When there are more than `most`, the one that has waited longest without a request is closed; one that is
    being answered never is.
    """

    most: ClassVar[int] = MOST

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room for this connection, and give it `PATIENCE` seconds."""
        super().connection_made(transport)
        self._since = self.loop.time()
        self._deadline = self.loop.call_later(PATIENCE, self._check)
        others = [one for one in self.connections if isinstance(one, LimitedConnection)]
        still_open = [one for one in others if not one.transport.is_closing()]
        if len(still_open) > self.most:
            waiting = [one for one in still_open if one.idle]
            min(waiting, key=lambda one: one._since, default=self).transport.abort()

    @property
    def idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self._since = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._deadline.cancel()
        super().connection_lost(exc)

    def _check(self) -> None:
        if self.idle and self.loop.time() - self._since >= PATIENCE:
            self.transport.abort()
        else:
            self._deadline = self.loop.call_later(PATIENCE, self._check)


def report_once(report: Callable[[str], None]) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """Return a handler for exceptions of an event loop that reports each kind in one line, once."""
    seen: set[str] = set()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        text = f"{context['message']}: {context.get('exception')}"
        if text not in seen:
            seen.add(text)
            report(text)

    return handle
