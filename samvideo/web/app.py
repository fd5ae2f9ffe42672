"""The page's addresses. The only file that imports starlette.

Threads: handlers run on the server's thread, where alone annotations are edited; what takes time (decoding,
previews, packing) runs on threads of the pool.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from samvideo.errors import PromptError, SamVideoError
from samvideo.web import messages
from samvideo.web.bodies import TooLarge, whole
from samvideo.web.downloads import Downloads
from samvideo.web.guard import App, Receive, Scope, Send
from samvideo.web.open_pages import OpenPages
from samvideo.web.project import Project
from samvideo.web.state import News, as_text
from samvideo.web.turns import in_own_thread
from samvideo.web.uploads import MAX_BYTES, decode_objects

STATIC = Path(__file__).parent / "static"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
MAX_JSON = 64 << 10
TICK = 0.08  # seconds between two looks for news
SILENCE = 15.0  # seconds without news after which a comment keeps proxies from giving up

Handler = Callable[[Request], Awaitable[Response]]


def make_app(project: Project, open_pages: OpenPages, downloads: Downloads) -> App:
    """Build the whole application; who may talk to it is the matter of a guard.

    Args:
        project: what the pages share.
        open_pages: counts them.
        downloads: the files that may be read.
    """
    pages = Pages(project, open_pages, downloads)
    # Names are taken from the folder, never from a request, so no path can lead out of it.
    files = [path for path in sorted(STATIC.iterdir()) if path.suffix in TYPES]
    routes = [Route("/", pages.index)]
    routes += [Route(f"/static/{path.name}", _static(path)) for path in files]
    routes += [
        Route("/api/schema", pages.schema),
        Route("/api/facts", pages.facts),
        Route("/api/events", pages.events),
        Route("/api/frames/{index}", pages.frame),
        Route("/api/thumbnails/{index}", pages.thumbnail),
        Route("/api/masks/{index}", pages.masks),
        Route("/api/files/{kind}", pages.download),
        Route("/api/edit", pages.edit, methods=["POST"]),
        Route("/api/propose", pages.propose, methods=["POST"]),
        Route("/api/mask", pages.upload, methods=["POST"]),
        Route("/api/command", pages.command, methods=["POST"]),
        Route("/api/leave", pages.leave, methods=["POST"]),
    ]
    handlers = {SamVideoError: _refuse, ClientDisconnect: _forget}
    return Starlette(routes=routes, exception_handlers=handlers)


def _static(path: Path) -> Handler:
    async def send(request: Request) -> Response:
        return Response(path.read_bytes(), media_type=f"{TYPES[path.suffix]}; charset=utf-8")

    return send


async def _refuse(request: Request, error: Exception) -> Response:
    """Answer with an error that a person can understand as JSON."""
    content = {"error": as_text(str(error))}
    if isinstance(error, TooLarge):
        return JSONResponse(content, 413, {"connection": "close"})
    return JSONResponse(content, 400)


async def _forget(request: Request, error: Exception) -> Response:
    """Answer a request whose client disconnected while it sent the body."""
    return Response(status_code=400)


async def _json(request: Request) -> bytes:
    if request.headers.get("content-type", "").split(";")[0] != "application/json":
        raise PromptError("a request in JSON expected")
    return await whole(request.stream(), request.headers, MAX_JSON)


def _frame_query(request: Request) -> messages.FrameQuery:
    return messages.decode(messages.FRAME, {**request.query_params, **request.path_params})


def _answer(value: messages.Sent) -> Response:
    return Response(messages.encode(value), media_type="application/json")


class Download(FileResponse):
    """A file; its browser counts as an open page until it has all of it."""

    def __init__(self, open_pages: OpenPages, path: Path, filename: str) -> None:
        super().__init__(path, filename=filename)
        self._open_pages = open_pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file."""
        with self._open_pages.page():
            await super().__call__(scope, receive, send)


class Pages:
    """What the page requests, one method an address."""

    def __init__(self, project: Project, open_pages: OpenPages, downloads: Downloads) -> None:
        self._project, self._open_pages, self._downloads = project, open_pages, downloads

    async def index(self, request: Request) -> Response:
        """The page itself."""
        self._open_pages.loading()
        return await _static(STATIC / "index.html")(request)

    async def schema(self, request: Request) -> Response:
        """JSON schema of all messages."""
        return JSONResponse(messages.schema())

    async def facts(self, request: Request) -> Response:
        """What never changes."""
        return _answer(self._project.facts)

    async def frame(self, request: Request) -> Response:
        """A frame as JPEG, its time in a header; `w` is the width of its place in pixels."""
        query = _frame_query(request)
        data, seconds = await run_in_threadpool(self._project.media.frame, query.index, query.w)
        return Response(data, media_type="image/jpeg", headers={"samvideo-seconds": f"{seconds:.6f}"})

    async def thumbnail(self, request: Request) -> Response:
        """A small image for the timeline."""
        data = await run_in_threadpool(self._project.media.thumbnail, _frame_query(request).index)
        return Response(data, media_type="image/jpeg")

    async def masks(self, request: Request) -> Response:
        """Outlines on a frame; no content when a newer request overtook this one."""
        found = await run_in_threadpool(self._project.masks, _frame_query(request).index)
        return Response(status_code=204) if found is None else _answer(found)

    async def edit(self, request: Request) -> Response:
        """Make one change of objects or annotations."""
        edit = messages.decode(messages.EDIT, await _json(request))
        project = self._project
        created = messages.apply(edit, project.annotations, project.shown_mask, project.proposing.take)
        return JSONResponse({"object": created, **json.loads(messages.encode(project.state()))})

    async def propose(self, request: Request) -> Response:
        """Objects that are found on a frame; no content when a newer request overtook this one."""
        query = messages.decode(messages.PROPOSE, await _json(request))
        project = self._project
        found = await in_own_thread(lambda: project.propose(query.frame, query.texts), lambda: project.closed)
        return Response(status_code=204) if found is None else _answer(found)

    async def upload(self, request: Request) -> Response:
        """Take a mask image, the body, for a frame."""
        query = messages.decode(messages.MASK, request.query_params)
        data = await whole(request.stream(), request.headers, MAX_BYTES)
        masks = await run_in_threadpool(decode_objects, data, self._project.media.info.size_wh)
        self._project.upload(query.frame, query.object, masks)
        return _answer(self._project.state())

    async def command(self, request: Request) -> Response:
        """Track, pause or finish."""
        self._project.command(messages.decode(messages.COMMAND, await _json(request)))
        return JSONResponse({})

    async def leave(self, request: Request) -> Response:
        """Note that a page is being closed or reloaded."""
        self._open_pages.left()
        return Response(status_code=204)

    async def download(self, request: Request) -> Response:
        """One of the files of this run, by its kind."""
        path = await run_in_threadpool(self._downloads.file, request.path_params["kind"])
        return Download(self._open_pages, path, filename=f"{self._project.facts.name}_{path.name}")

    async def events(self, request: Request) -> Response:
        """State and results as they change, as server-sent events."""
        return StreamingResponse(self._news(), media_type="text/event-stream")

    async def _news(self) -> AsyncIterator[str]:
        project, seen, cursor, quiet = self._project, (-1, -1), 0, 0.0
        with self._open_pages.page():
            while True:
                closed = project.closed  # read first: what was reported before it is sent still
                version = project.status.version, project.annotations.current.revision
                cursor, rows = project.results.news(cursor)
                if version != seen or rows:
                    news = News(rows, project.state() if version != seen else None)
                    yield f"data: {messages.encode(news).decode()}\n\n"
                    seen, quiet = version, 0.0
                if closed:
                    return
                if quiet > SILENCE:
                    yield ": still here\n\n"
                    quiet = 0.0
                await asyncio.sleep(TICK)
                quiet += TICK
