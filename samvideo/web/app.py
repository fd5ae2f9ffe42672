"""The page's addresses. The only file that imports starlette."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from samvideo.errors import ConfigError, PromptError, SamVideoError
from samvideo.web.downloads import Downloads
from samvideo.web.guard import App, Guard
from samvideo.web.presence import Presence
from samvideo.web.project import Project
from samvideo.web.uploads import MAX_BYTES, decode_mask

STATIC = Path(__file__).parent / "static"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
MAX_JSON = 64 << 10
TICK = 0.08  # seconds between two looks for news
SILENCE = 15.0  # seconds without news after which a comment keeps proxies from giving up

Handler = Callable[[Request], Awaitable[Response]]


class TooLarge(SamVideoError):
    """A request's body is over its limit."""


def make_app(project: Project, presence: Presence, downloads: Downloads, token: str, host: str) -> App:
    """The whole application, guarded.

    Args:
        project: what the pages share.
        presence: is told of pages that open and leave.
        downloads: the files that may be read.
        token, host: see `Guard`.
    """
    pages = Pages(project, presence, downloads)
    # Names are taken from the folder, never from a request, so no path can lead out of it.
    files = [path for path in sorted(STATIC.iterdir()) if path.suffix in TYPES]
    routes = [Route("/", _static(STATIC / "index.html"))]
    routes += [Route(f"/static/{path.name}", _static(path)) for path in files]
    routes += [
        Route("/api/facts", _safe(pages.facts)),
        Route("/api/events", _safe(pages.events)),
        Route("/api/frames/{index:int}", _safe(pages.frame)),
        Route("/api/thumbnails/{index:int}", _safe(pages.thumbnail)),
        Route("/api/masks/{index:int}", _safe(pages.masks)),
        Route("/api/files/{kind}", _safe(pages.download)),
        Route("/api/edit", _safe(pages.edit), methods=["POST"]),
        Route("/api/mask", _safe(pages.upload), methods=["POST"]),
        Route("/api/command", _safe(pages.command), methods=["POST"]),
        Route("/api/leave", _safe(pages.leave), methods=["POST"]),
    ]
    return Guard(Starlette(routes=routes), token, host)


def _static(path: Path) -> Handler:
    async def send(request: Request) -> Response:
        return Response(path.read_bytes(), media_type=f"{TYPES[path.suffix]}; charset=utf-8")

    return send


def _safe(handler: Handler) -> Handler:
    """Errors that a person can understand become a line of JSON."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except TooLarge as error:
            return JSONResponse({"error": str(error)}, 413, {"connection": "close"})
        except SamVideoError as error:
            return JSONResponse({"error": str(error)}, 400)

    return answer


async def _body(request: Request, limit: int) -> bytes:
    """The body, never more than `limit` bytes of it in memory."""
    too_large = TooLarge(f"at most {limit} bytes expected")
    try:
        if int(request.headers.get("content-length", "0")) > limit:
            raise too_large
    except ValueError:
        raise PromptError("the length of the request is no number") from None
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit:
            raise too_large
    return bytes(data)


async def _json(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").split(";")[0] != "application/json":
        raise PromptError("a request in JSON expected")
    try:
        value = json.loads(await _body(request, MAX_JSON))
    except (ValueError, RecursionError):
        raise PromptError("the request is not JSON") from None
    if not isinstance(value, dict):
        raise PromptError("the request is no JSON object")
    return value


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise PromptError(f"{name} must be a whole number, not {value!r:.60}")
    return value


def _numbers(value: Any, count: int, name: str) -> list[float]:
    good = isinstance(value, list) and len(value) == count
    if not good or any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in value):
        raise PromptError(f"{name} must be {count} numbers, not {value!r:.60}")
    try:
        return [float(v) for v in value]
    except OverflowError:
        raise PromptError(f"{name} must be {count} finite numbers") from None


def _query_int(request: Request, name: str, default: int | None = None) -> int:
    text = request.query_params.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise PromptError(f"{name} must be a whole number, not {text!r:.60}")
    return int(text)


class Pages:
    """What the page asks for, one method an address."""

    def __init__(self, project: Project, presence: Presence, downloads: Downloads) -> None:
        self._project, self._presence, self._downloads = project, presence, downloads

    async def facts(self, request: Request) -> Response:
        """What never changes."""
        return JSONResponse(self._project.facts())

    async def frame(self, request: Request) -> Response:
        """A frame as JPEG; `w` is the width of its place in pixels."""
        width = _query_int(request, "w", 1280)
        data = await run_in_threadpool(self._project.frame, request.path_params["index"], width)
        return Response(data, media_type="image/jpeg")

    async def thumbnail(self, request: Request) -> Response:
        """A small picture for the timeline."""
        data = await run_in_threadpool(self._project.thumbnail, request.path_params["index"])
        return Response(data, media_type="image/jpeg")

    async def masks(self, request: Request) -> Response:
        """Outlines on a frame; no content when a newer request overtook this one."""
        found = await run_in_threadpool(self._project.masks, request.path_params["index"])
        return Response(status_code=204) if found is None else JSONResponse(found)

    async def edit(self, request: Request) -> Response:
        """One change of objects or marks."""
        said = await _json(request)
        created = await run_in_threadpool(self._edit, said)
        return JSONResponse({"object": created, **self._project.state()})

    def _edit(self, said: dict[str, Any]) -> int | None:
        book, kind = self._project.book, said.get("do")
        name = said.get("name", "")
        if not isinstance(name, str):
            raise PromptError("a name is text")
        if kind == "add":
            return book.add_object(name)
        if kind in ("undo", "redo"):
            (book.undo if kind == "undo" else book.redo)()
            return None
        object_id = _whole(said.get("object"), "object")
        if kind == "rename":
            book.rename(object_id, name)
        elif kind == "remove":
            book.remove_object(object_id)
        elif kind == "clear":
            book.clear(_whole(said.get("frame"), "frame"), object_id)
        elif kind == "box":
            x1, y1, x2, y2 = _numbers(said.get("box"), 4, "box")
            book.set_box(_whole(said.get("frame"), "frame"), object_id, (x1, y1, x2, y2))
        elif kind == "click":
            x, y = _numbers(said.get("xy"), 2, "xy")
            label = _whole(said.get("label"), "label")
            book.add_click(_whole(said.get("frame"), "frame"), object_id, (x, y, label))
        else:
            raise ConfigError(f"there is no edit {kind!r:.60}")
        return None

    async def upload(self, request: Request) -> Response:
        """A mask picture for one object and frame, as the body."""
        frame, object_id = _query_int(request, "frame"), _query_int(request, "object")
        data = await _body(request, MAX_BYTES)
        mask = await run_in_threadpool(decode_mask, data, self._project.info.size_wh)
        self._project.book.set_mask(frame, object_id, mask)
        return JSONResponse(self._project.state())

    async def command(self, request: Request) -> Response:
        """Track, pause or finish."""
        said = await _json(request)
        self._project.ask(str(said.get("kind")), str(said.get("direction", "forward")))
        return JSONResponse({})

    async def leave(self, request: Request) -> Response:
        """A page says that it is being closed or loaded anew."""
        self._presence.left()
        return Response(status_code=204)

    async def download(self, request: Request) -> Response:
        """One of the files of this run, by its kind."""
        path = await run_in_threadpool(self._downloads.file, request.path_params["kind"])
        return FileResponse(path, filename=f"{self._project.info.name}_{path.name}")

    async def events(self, request: Request) -> Response:
        """State and results as they change, as server-sent events."""
        return StreamingResponse(self._news(), media_type="text/event-stream")

    async def _news(self) -> AsyncIterator[str]:
        project, seen, cursor, quiet = self._project, (-1, -1), 0, 0.0
        with self._presence.page():
            while True:
                version = project.version, project.book.revision
                cursor, rows = project.results.news(cursor)
                if version != seen or rows:
                    news: dict[str, Any] = {"rows": rows}
                    if version != seen:
                        news["state"] = await run_in_threadpool(project.state)
                    yield f"data: {json.dumps(news, separators=(',', ':'))}\n\n"
                    seen, quiet = version, 0.0
                if project.closed:
                    return
                if quiet > SILENCE:
                    yield ": still here\n\n"
                    quiet = 0.0
                await asyncio.sleep(TICK)
                quiet += TICK
