"""The page's server, which runs on its own thread."""

import asyncio
import errno
import logging
import secrets
import socket
import threading
import time

import uvicorn

from samvideo.errors import ConfigError
from samvideo.web.app import make_app
from samvideo.web.connections import BACKLOG, LimitedConnection, report_once
from samvideo.web.downloads import Downloads
from samvideo.web.guard import Guard, PathGuard
from samvideo.web.open_pages import OpenPages
from samvideo.web.project import Project

PORT = 8765  # where it is free: an address that stays the same suits a tunnel
GOODBYE = 2  # seconds for open pages to receive the last news


def listen(host: str, port: int | None) -> socket.socket:
    """Listen; without a port on `PORT`, or any free one. Raises ConfigError if address or port are unusable."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, PORT if port is None else port), family=family)
    except (OSError, OverflowError) as error:
        if port is None and isinstance(error, OSError) and error.errno in (errno.EADDRINUSE, errno.EACCES):
            return socket.create_server((host, 0), family=family)
        raise ConfigError(
            f"no page can be served at {host} port {PORT if port is None else port} ({error}): choose another "
            "--port or --host, or give coordinates, for instance --prompt box=40,60,200,220"
        ) from error


class PageServer:
    """Context manager: serves while it is entered.

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
        self._listener, self._project = listener, project
        token = secrets.token_urlsafe(24)
        name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
        path = f"{token}/" if embedded else f"?token={token}"
        self.address = f"http://{name}:{listener.getsockname()[1]}/{path}"
        app = make_app(project, open_pages, downloads)
        config = uvicorn.Config(
            PathGuard(app, token) if embedded else Guard(app, token, host),
            http=LimitedConnection,
            backlog=BACKLOG,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            log_level="error",  # warnings tell of malformed requests, which anybody on this machine can send
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GOODBYE,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve()), name="samvideo-page", daemon=True
        )

    async def _serve(self) -> None:
        report = logging.getLogger(__name__).warning
        asyncio.get_running_loop().set_exception_handler(report_once(report))
        await self._server.serve([self._listener])

    def __enter__(self) -> "PageServer":
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.01)
        self._listener.listen()  # more may queue up than are accepted at once
        return self

    def __exit__(self, *_: object) -> None:
        self._project.close()
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()
