"""Runs the server until a signal ends it."""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from samvideo.errors import ConfigError, SamVideoError, shown
from samvideo.interrupt import Interrupt
from samvideo.serving.app import make_app
from samvideo.serving.label_studio import LabelStudio
from samvideo.serving.limits import Limits
from samvideo.serving.service import MakeTracker, Service, sharing
from samvideo.serving.storage import remove_abandoned
from samvideo.web.connections import LimitedConnection
from samvideo.web.server import Server, address_of, listen

GOODBYE = 20  # seconds at the end for requests that are being answered
LOOK = 0.1  # seconds between two looks for signals
SHORTEST = 12  # characters of a token


class Connection(LimitedConnection):
    """One connection; there may be more than to a page, since every session has its own client."""

    most = 512


@dataclass(frozen=True)
class ServerSettings:
    """How the server is run.

    Attributes:
        host, port: what it is bound to; 0 is any free port.
        tokens: who has one of them is let in; empty: one is made.
        limits: what is allowed.
        batch: the most frames of different sessions that are computed as one; see `Service`.
        label_studio: address of a Label Studio that is served too, and its API key, which may be empty.
    """

    host: str = "127.0.0.1"
    port: int = 8766
    tokens: Sequence[str] = ()
    limits: Limits = field(default_factory=Limits)
    batch: int | None = None
    label_studio: tuple[str, str] | None = None


class ApiServer(Server):
    """Context manager: serves sessions while it is entered; at its end, requests are answered and sessions closed.

    Attributes:
        address: without a path, such as http://127.0.0.1:8766.
        tokens: who has one of them is let in.
    """

    def __init__(
        self, models: Mapping[str, MakeTracker], settings: ServerSettings, replica: str | None = None
    ) -> None:
        self.tokens = check_tokens(settings.tokens) or (secrets.token_urlsafe(24),)
        remove_abandoned()
        self._service = Service(models, settings.limits, settings.batch, replica)
        listener = listen(settings.host, settings.port, "choose another --port or --host")
        self.address = address_of(listener, settings.host)
        at = settings.label_studio
        back_end = None if at is None else LabelStudio(self._service, *at)
        app = make_app(self._service, self.tokens, back_end)
        super().__init__(app, listener, connection=Connection, lifespan="on", goodbye=GOODBYE)

    def __exit__(self, *error: object) -> None:
        self._service.end()
        super().__exit__(*error)


def serve(
    models: Mapping[str, MakeTracker], settings: ServerSettings, announce: Callable[[ApiServer], None]
) -> None:
    """Load the models and serve them until SIGINT, SIGTERM or SIGHUP; `announce` is called once it answers.

    Raises:
        SamVideoError: a model cannot be loaded, none can compute in batches as asked, a token is unusable, or
            nothing can be served at this address.
    """
    check_tokens(settings.tokens)
    loaded = {name: sharing(make) for name, make in models.items()}
    with Interrupt() as interrupt, ApiServer(loaded, settings) as server:
        announce(server)
        while not interrupt.requested and server.alive:
            time.sleep(LOOK)
        if not server.alive:
            raise SamVideoError(
                "the server ended because of an internal error: see the messages before, and start it again"
            )


def check_tokens(tokens: Sequence[str]) -> tuple[str, ...]:
    """The tokens; ConfigError for one that a header cannot hold, or that is easily guessed."""
    for token in tokens:
        if len(token) < SHORTEST or not (token.isascii() and token.isprintable()) or " " in token:
            raise ConfigError(
                f"a token is {shown(token[:4])}…: at least {SHORTEST} printable characters without blanks expected"
            )
    return tuple(tokens)
