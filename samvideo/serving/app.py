"""The addresses of the server, described by its OpenAPI document. The only file that imports fastapi.

Handlers run on the server's thread; what takes time runs on the threads of the service.
"""

import asyncio
import secrets
from base64 import b64decode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.security import HTTPBasic, HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from samvideo import __version__
from samvideo.errors import SamVideoError
from samvideo.io.schema import describe_fault
from samvideo.io.tracks import FrameRecord, Index
from samvideo.serving import messages
from samvideo.serving.bodies import TimedBody, store
from samvideo.serving.frames import read_frame
from samvideo.serving.label_studio import LabelStudio, PredictAnswer, PredictRequest, SetupAnswer
from samvideo.serving.limits import Limits, Refusal
from samvideo.serving.metrics import CONTENT_TYPE, Metrics
from samvideo.serving.propagation import advance, propagation
from samvideo.serving.service import Service
from samvideo.serving.sessions import Session, check_video, newest_frame
from samvideo.web.bodies import TooLarge, limited
from samvideo.web.guard import App, Receive, Scope, Send
from samvideo.web.state import as_text

OPEN = frozenset({"/health", "/metrics", "/openapi.json"})  # without a token; they tell nothing of what is tracked
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
ABOUT = (
    "Track objects in videos, one video a session. Send frames as they come, or upload a video and step or "
    "propagate through it; give prompts on the newest frame. Masks are COCO RLE."
)
STATUSES = {
    400: "Not HTTP as expected, or broken off.",
    401: "No token, or an unknown one.",
    404: "No such session or object.",
    409: "Not in this state of the session, or while another of its requests is answered.",
    408: "No more of the body came.",
    413: "Body, frame or video over its limit.",
    422: "Not what is expected, which the text tells.",
    429: "As many sessions as allowed are open.",
    500: "An internal error; the session may have failed because of it.",
    503: "The server is shutting down.",
    507: "No room to store the video.",
}


def make_app(service: Service, tokens: Sequence[str], label_studio: LabelStudio | None = None) -> App:
    """Build the application, with the addresses of a Label Studio if there is one.

    Every request but those of `OPEN` needs one of the tokens.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        expiring = asyncio.create_task(service.expire())
        yield
        expiring.cancel()
        await service.close()

    app = FastAPI(
        title="samvideo",
        description=ABOUT,
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
        exception_handlers={
            SamVideoError: _refuse,
            HTTPException: _refuse_http,
            RequestValidationError: _refuse_fault,
            ClientDisconnect: _forget,
            Exception: _fail,
        },
    )
    api = Api(service)
    app.add_api_route("/health", api.health, response_model=messages.Health)
    app.add_api_route("/metrics", api.metrics, response_class=Response)
    app.include_router(_routes(api, service.limits.json_bytes))
    if label_studio is not None:
        app.include_router(_label_studio_routes(label_studio, service.limits.json_bytes))
    return Gate(app, tokens, service.limits, service.metrics)


def _routes(api: "Api", json_bytes: int) -> APIRouter:
    answers: dict[int | str, dict[str, Any]] = {
        status: {"model": messages.Failure, "description": text} for status, text in STATUSES.items()
    }
    record: dict[int | str, dict[str, Any]] = {
        200: {"model": FrameRecord, "description": "Objects and their masks."}
    }
    router = APIRouter(responses=answers, dependencies=[Depends(HTTPBearer(auto_error=False))])
    at = "/sessions/{session_id}"
    add = router.add_api_route
    limit: dict[str, Any] = {"max_body_size": json_bytes}
    add("/sessions", api.create, methods=["POST"], status_code=201, response_model=messages.SessionFacts, **limit)
    add("/sessions", api.sessions, response_model=list[messages.SessionFacts])
    add(at, api.session, response_model=messages.SessionFacts)
    add(at, api.close, methods=["DELETE"], status_code=204)
    add(f"{at}/frames", api.frame, methods=["POST"], responses=record, openapi_extra=_body("image/*"))
    add(
        f"{at}/video",
        api.upload,
        methods=["PUT"],
        response_model=messages.SessionFacts,
        openapi_extra=_body("video/*"),
    )
    add(f"{at}/prompts", api.prompts, methods=["POST"], responses=record, **limit)
    add(f"{at}/step", api.step, methods=["POST"], responses=record, **limit)
    add(f"{at}/propagate", api.propagate, methods=["POST"], response_class=EventStream, **limit)
    add(f"{at}/objects/{{object_id}}", api.forget, methods=["DELETE"], status_code=204)
    return router


def _label_studio_routes(back_end: LabelStudio, json_bytes: int) -> APIRouter:
    """A machine learning back end, whose address in Label Studio ends in /label-studio."""
    router = APIRouter(prefix="/label-studio", dependencies=[Depends(HTTPBasic(auto_error=False))])

    @router.get("/health")
    async def health() -> dict[str, str]:
        """Whether it is up."""
        return {"status": "UP", "model_class": "samvideo"}

    @router.post("/setup")
    async def setup() -> SetupAnswer:
        """Name the version; there is nothing to set up."""
        return SetupAnswer(model_version=back_end.version)

    @router.post("/predict", max_body_size=json_bytes)
    async def predict(request: Request, body: PredictRequest) -> PredictAnswer:
        """Regions from what was drawn."""
        return await back_end.predict(request.state.owner, body)

    @router.post("/webhook")
    async def webhook() -> dict[str, str]:
        """Accept an event; nothing is trained here."""
        return {}

    return router


def _body(kind: str) -> dict[str, Any]:
    schema = {"type": "string", "format": "binary"}
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema}}}}


def failure(text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    """A refusal, as JSON."""
    return JSONResponse({"error": as_text(text)}, status, headers)


def _too_large(expected: str) -> Response:
    return failure(f"the body is too large: {expected}", 413, {"connection": "close"})


async def _refuse(request: Request, error: Any) -> Response:
    if isinstance(error, TooLarge):
        return _too_large(str(error))
    return failure(str(error), error.status if isinstance(error, Refusal) else 422)


async def _forget(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # the client has disconnected while it sent the body


async def _fail(request: Request, error: Exception) -> Response:
    return failure("the request cannot be answered because of an internal error", 500)  # which logs it


async def _refuse_http(request: Request, error: Any) -> Response:
    texts = {
        404: f"there is no {request.url.path[:200]!r} here: see /openapi.json",
        405: f"{request.method} is not possible here: see /openapi.json",
        413: "the body is too large",
    }
    return failure(texts.get(error.status_code, str(error.detail)), error.status_code, error.headers)


async def _refuse_fault(request: Request, error: Any) -> Response:
    errors = error.errors()
    if isinstance(errors[0].get("input"), bytes):
        return failure("JSON expected, with the header `Content-Type: application/json`", 422)
    if errors[0]["type"] == "missing" and len(errors[0]["loc"]) == 1:
        return failure("the body is missing: JSON expected", 422)
    fault = describe_fault([{**each, "loc": _in_body(each["loc"])} for each in errors])
    return failure(fault.removeprefix(": ") if fault.startswith(":") else f"the body{fault}", 422)


def _in_body(place: Sequence[str | int]) -> tuple[str | int, ...]:
    """The path of a value in the JSON that was sent: without "body", and a prompt's kind, which pydantic adds."""
    inner = tuple(place[1:])
    return (*inner[:2], *inner[3:]) if inner[:1] == ("prompts",) else inner


class Gate:
    """ASGI middleware: lets those in who have a token, and bodies that come in time; counts the answers."""

    def __init__(self, app: App, tokens: Sequence[str], limits: Limits, metrics: Metrics | None = None) -> None:
        self._app, self._tokens = app, [token.encode() for token in tokens]
        self._limits, self._metrics = limits, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, refuse or pass on one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = TimedBody(receive, self._limits.body_seconds)
        status: int | None = None

        async def counted(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        async def answer(message: Any) -> None:
            if status is not None or not body.late:
                await counted(message)

        headers = dict(scope["headers"])
        owner = self._owner(headers.get(b"authorization", b""))
        app: App = self._app
        if owner is None and scope["path"] not in OPEN:
            text = "no token, or an unknown one: send the header `Authorization: Bearer TOKEN`"
            app = failure(text, 401, {"www-authenticate": "Bearer", "connection": "close"})
        elif int(headers.get(b"content-length", b"0")) > (most := self._most_bytes(scope["path"])):
            app = _too_large(f"at most {most} bytes expected")
        scope.setdefault("state", {})["owner"] = owner
        try:
            await app(scope, body.receive, answer)
            if body.late and status is None:
                text = f"no more of the body came for {self._limits.body_seconds:g} s: send it again"
                await failure(text, 408, {"connection": "close"})(scope, receive, counted)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            route = getattr(scope.get("route"), "path", "none")
            if self._metrics is not None:
                self._metrics.requests.labels(method, route, status or 500).inc()

    def _most_bytes(self, path: str) -> int:
        """The most that the body of a request may have."""
        limits = self._limits
        return {"frames": limits.image_bytes, "video": limits.upload_bytes}.get(
            path.rpartition("/")[2], limits.json_bytes
        )

    def _owner(self, authorization: bytes) -> str | None:
        """The token that is given, if it is known."""
        scheme, given = get_authorization_scheme_param(authorization.decode("latin-1"))
        if scheme.lower() == "basic":  # of Label Studio, whose password is the token
            with suppress(ValueError):
                given = b64decode(given).decode("latin-1").partition(":")[2]
        elif scheme.lower() != "bearer":
            return None
        found = [token for token in self._tokens if secrets.compare_digest(token, given.encode())]
        return found[0].decode() if found else None


class EventStream(StreamingResponse):
    """Server-sent events; the session answers nothing else until they end."""

    media_type = "text/event-stream"

    def __init__(self, session: Session, events: AsyncIterator[str], status_code: int = 200) -> None:
        super().__init__(events, status_code, {"cache-control": "no-store"})
        self._session = session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        with self._session.turn():
            await super().__call__(scope, receive, send)


class Api:
    """What clients request, one method an address; its first lines describe it in the OpenAPI document."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def _session(self, request: Request, session_id: str) -> Session:
        return self._service.find(request.state.owner, session_id)

    async def health(self) -> messages.Health:
        """Whether the server takes new sessions."""
        return self._service.health()

    async def metrics(self) -> Response:
        """Counts and times, as Prometheus text."""
        return Response(self._service.metrics.text(), media_type=CONTENT_TYPE)

    async def create(self, request: Request, body: messages.CreateSession | None = None) -> messages.SessionFacts:
        """Create a session."""
        session = await self._service.create(request.state.owner, None if body is None else body.model)
        return session.facts()

    async def sessions(self, request: Request) -> list[messages.SessionFacts]:
        """List the sessions of this token."""
        return [session.facts() for session in self._service.of(request.state.owner)]

    async def session(self, request: Request, session_id: str) -> messages.SessionFacts:
        """Describe a session; this resets its expiry time."""
        session = self._session(request, session_id)
        session.touch()
        return session.facts()

    async def close(self, request: Request, session_id: str) -> Response:
        """Close a session, also while it propagates."""
        await self._service.close_session(self._session(request, session_id))
        return Response(status_code=204)

    async def frame(
        self,
        request: Request,
        session_id: str,
        index: Annotated[Index | None, Query(description="by default one more than before")] = None,
        seconds: Annotated[float | None, Query(ge=0, le=1e9, description="by default index / 24")] = None,
    ) -> Response:
        """Track the next frame of a stream: the body, as JPEG, PNG, WebP or BMP."""
        service, session = self._service, self._session(request, session_id)
        with session.turn():  # one body at a time, each of which is held in memory
            data = b"".join([part async for part in self._body(request, session, service.limits.image_bytes)])
            rgb = await service.apart(lambda: read_frame(data, service.limits.pixels))
            return _answer(await service.step(session, session.new_frame(rgb, index, seconds)))

    async def upload(self, request: Request, session_id: str) -> messages.SessionFacts:
        """Upload the video of a session, the body. Nothing is tracked yet: go to a frame by `step` first."""
        service, session = self._service, self._session(request, session_id)
        with session.turn():
            path = session.upload_path()
            await store(path, self._body(request, session, service.limits.upload_bytes))
            await service.read(partial(session.open_video, path))
            return session.facts()

    async def _body(self, request: Request, session: Session, most: int) -> AsyncIterator[bytes]:
        """The parts of a body; the session does not expire meanwhile."""
        async for part in limited(request.stream(), request.headers, most):
            session.touch()
            yield part

    async def prompts(self, request: Request, session_id: str, body: messages.Prompts) -> Response:
        """Add objects on the newest frame, or correct known ones."""
        session = self._session(request, session_id)
        with session.turn():
            frame = newest_frame(session)
            body.check_masks(self._service.limits.objects)
            return _answer(await self._service.step(session, frame, partial(body.on_frame, frame.size_wh)))

    async def step(self, request: Request, session_id: str, body: messages.Step | None = None) -> Response:
        """Track the next frame of the uploaded video, or go to one."""
        session = self._session(request, session_id)
        with session.turn():
            record = await advance(self._service, session, None if body is None else body.frame)
            if record is None:
                raise Refusal(409, "the video has ended: step to an earlier frame, or close the session")
            return _answer(record)

    async def propagate(
        self, request: Request, session_id: str, body: messages.Propagate | None = None
    ) -> EventStream:
        """Track to the end of the uploaded video, or some steps.

        Server-sent events: `frame` with the result of a frame, at last `end` with the reason, or `error`.
        """
        session = self._session(request, session_id)
        newest_frame(session)
        check_video(session)
        return EventStream(session, propagation(self._service, session, body or messages.Propagate()))

    async def forget(self, request: Request, session_id: str, object_id: int) -> Response:
        """Stop tracking an object."""
        session = self._session(request, session_id)
        with session.turn():
            await self._service.apart(partial(session.forget, object_id))
        return Response(status_code=204)


def _answer(record: FrameRecord) -> Response:
    return JSONResponse(record.to_json())
