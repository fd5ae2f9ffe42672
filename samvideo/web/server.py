"""Servers that run on a thread of their own, such as the page's."""

import asyncio
import errno
import logging
import secrets
import socket
import threading
import time
from contextlib import suppress
from typing import Literal, TypeVar

import uvicorn

from samvideo.errors import ConfigError
from samvideo.web.app import make_app
from samvideo.web.connections import BACKLOG, LimitedConnection, report_once
from samvideo.web.downloads import Downloads
from samvideo.web.guard import App, Guard, PathGuard
from samvideo.web.open_pages import OpenPages
from samvideo.web.project import Project

PORT = 8765  # where it is free: an address that stays the same suits a tunnel
GOODBYE = 2  # seconds for open pages to receive the last news
Self = TypeVar("Self", bound="Server")
ADVICE = "choose another --port or --host, or give coordinates, for instance --prompt box=40,60,200,220"


def listen(host: str, port: int | None, advice: str = ADVICE) -> socket.socket:
    """Listen; without a port on `PORT`, or any free one.

    Raises ConfigError, which ends in `advice`, if address or port are unusable.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, PORT if port is None else port), family=family)
    except (OSError, OverflowError) as error:
        number = error.errno if isinstance(error, OSError) else None
        if port is None and number in (errno.EADDRINUSE, errno.EACCES):
            return socket.create_server((host, 0), family=family)
        if number == errno.EADDRINUSE:
            raise ConfigError(f"port {port} of {host} is in use: {advice}") from error
        reason = str(getattr(error, "strerror", None) or error).partition(" (while")[0]  # which repeats the address
        raise ConfigError(
            f"nothing can be served at {host} port {PORT if port is None else port} ({reason}): {advice}"
        ) from error


def address_of(listener: socket.socket, host: str) -> str:
    """The address, without a path, of what listens and is bound to `host`."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{listener.getsockname()[1]}"


class Server:
    """Context manager: serves an application, on a thread of its own, while it is entered.

    Args:
        app: what is served.
        listener: from `listen`; closed at the end.
        connection: one connection, with its limits.
        lifespan: "on" for an application with startup and shutdown events.
        goodbye: seconds at the end for requests that are being answered.
    """

    def __init__(
        self,
        app: App,
        listener: socket.socket,
        *,
        connection: type[LimitedConnection] = LimitedConnection,
        lifespan: Literal["on", "off"] = "off",
        goodbye: int = GOODBYE,
    ) -> None:
        self._listener = listener
        config = uvicorn.Config(
            app,
            http=connection,
            backlog=BACKLOG,
            ws="none",
            lifespan=lifespan,
            loop="asyncio",
            log_config=None,
            log_level="error",  # warnings tell of malformed requests, which anybody on this machine can send
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=goodbye,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve()), name="samvideo-server", daemon=True
        )

    async def _serve(self) -> None:
        report = logging.getLogger(__name__).warning
        asyncio.get_running_loop().set_exception_handler(report_once(report))
        with suppress(SystemExit):  # by which uvicorn tells that it cannot start; it has logged why
            await self._server.serve([self._listener])

    @property
    def alive(self) -> bool:
        """Whether it still serves."""
        return self._thread.is_alive()

    def __enter__(self: Self) -> Self:
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.01)
        if not self._server.started:
            self._thread.join()
            self._listener.close()
            raise ConfigError("the server cannot be started: see the messages before")
        self._listener.listen()  # more may queue up than are accepted at once
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()


class PageServer(Server):
    """The page's server.

    Args:
        project, open_pages, downloads: see `make_app`.
        listener: from `listen`; closed at the end.
        host: what it is bound to.
        embedded: whether another page may embed this one; see `PathGuard`.

    Attributes:
        address: of the page, with its token.
    """

    def __init__(
        self,
        project: Project,
        open_pages: OpenPages,
        downloads: Downloads,
        listener: socket.socket,
        host: str,
        *,
        embedded: bool = False,
    ) -> None:
        self._project = project
        token = secrets.token_urlsafe(24)
        self.address = f"{address_of(listener, host)}/" + (f"{token}/" if embedded else f"?token={token}")
        app = make_app(project, open_pages, downloads)
        super().__init__(PathGuard(app, token) if embedded else Guard(app, token, host), listener)

    def __exit__(self, *error: object) -> None:
        self._project.close()
        super().__exit__(*error)
