"""Who may talk to the page's server: only those who know its address with the token, from that address itself."""

import hashlib
import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'"
)
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
EMBEDDED = ((b"content-security-policy", POLICY), *HEADERS)
ALONE = (
    (b"content-security-policy", POLICY + b"; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    *HEADERS,
)
LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})


def is_local(host: str) -> bool:
    """Whether only this machine can reach a server bound to `host`."""
    return host in LOCAL or host.startswith("127.")


class Guard:
    """ASGI middleware: token or cookie, Host and Origin, and the headers that keep a browser strict.

    The first request carries the token in its query (`/?token=...`); the answer is a cookie and a redirect to the
    bare address, so that the token stays out of history and referrers. A page of another site cannot read or
    post here (Origin, Sec-Fetch-Site, SameSite), nor can a name that was made to point here (Host). The cookie is
    not SameSite=Strict: a browser would withhold it after the redirect from the file that `samvideo` opens.

    Args:
        app: what is guarded.
        token: the secret of this run.
        host: what the server is bound to.
    """

    def __init__(self, app: App, token: str, host: str) -> None:
        self._app, self._token, self._host = app, token, host
        # Cookies do not tell ports apart: two runs on one machine need two names.
        self._cookie = "samvideo_" + hashlib.sha256(token.encode()).hexdigest()[:12]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, refuse or pass on one request."""
        if scope["type"] != "http":
            return  # no websockets, no lifespan
        headers = {key: value.decode("latin-1") for key, value in scope["headers"]}

        send_guarded = _with_headers(send, ALONE)
        reason = self._refuse(scope["method"], headers)
        if reason:
            await _answer(send_guarded, 403, reason)
            return
        if _same(_query_token(scope), self._token) and scope["method"] == "GET":
            cookie = f"{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Lax"
            extra = [(b"location", b"/"), (b"set-cookie", cookie.encode())]
            await _answer(send_guarded, 303, "", extra)
            return
        if not _same(_cookie(headers.get(b"cookie", ""), self._cookie), self._token):
            await _answer(send_guarded, 403, "Open the address that the command printed, with its token.")
            return
        await self._app(scope, receive, send_guarded)

    def _refuse(self, method: str, headers: dict[bytes, str]) -> str:
        """Why a request is refused whatever its token, "" when it is not."""
        host = headers.get(b"host", "")
        if not self._may_be_called(host):
            return "This server does not go by that name."
        origin = headers.get(b"origin")
        if origin is not None and origin.lower().partition("://")[2] != host.lower():
            return "Requests from other pages are refused."
        # Following a link from another site is harmless: it shows the page, and only to who has the cookie.
        followed = method == "GET" and headers.get(b"sec-fetch-mode") == "navigate"
        if headers.get(b"sec-fetch-site", "none") not in ("none", "same-origin") and not followed:
            return "Requests from other sites are refused."
        if method not in ("GET", "HEAD") and origin is None:
            return "Requests that change something must name their origin."
        return ""

    def _may_be_called(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in LOCAL:
            return True
        if is_local(self._host):
            return False
        # Bound to the network: an address cannot be made to point elsewhere, and its own names are known.
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in {self._host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}
        return True


class PathGuard:
    """ASGI middleware of a page that another page embeds: paths begin with the token, as in `/TOKEN/api/facts`.

    Browsers withhold cookies from an embedded page, and proxies of notebooks change Host and Origin, so none of
    these counts here. No other site can name the path, whatever host it makes point here; addresses within the page
    are relative, and referrers are off.

    Args:
        app: what is guarded.
        token: the secret of this run.
    """

    def __init__(self, app: App, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on one request, its path without the token, or refuse it."""
        if scope["type"] != "http":
            return
        send = _with_headers(send, EMBEDDED)
        token, _, path = scope["path"].removeprefix("/").partition("/")
        if _same(token, self._token):
            await self._app({**scope, "path": f"/{path}"}, receive, send)
        else:
            await _answer(send, 403, "The address of the page is needed, with its token.")


def _with_headers(send: Send, headers: Iterable[tuple[bytes, bytes]]) -> Send:
    async def send_more(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *headers]
        await send(message)

    return send_more


def _same(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode(errors="replace"), token.encode())


def _query_token(scope: Scope) -> str:
    try:
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"), max_num_fields=16)
    except ValueError:
        return ""
    return query.get("token", [""])[0]


def _cookie(header: str, name: str) -> str:
    try:
        jar = SimpleCookie(header)
    except CookieError:
        return ""
    return jar[name].value if name in jar else ""


async def _answer(send: Send, status: int, text: str, extra: list[tuple[bytes, bytes]] | None = None) -> None:
    body = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *(extra or [])]})
    await send({"type": "http.response.body", "body": body})
