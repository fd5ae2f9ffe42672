"""Steps through an uploaded video, and the events of a propagation."""

import json
import logging
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from samvideo.errors import SamVideoError
from samvideo.io.tracks import FrameRecord
from samvideo.serving.messages import Propagate
from samvideo.serving.service import Service
from samvideo.serving.sessions import Session
from samvideo.web.state import as_text


async def advance(service: Service, session: Session, index: int | None = None) -> FrameRecord | None:
    """Track the frame after the newest one, or that of an index; None after the last one."""
    if index is None:
        await service.read(session.rewind)
    return await _track_next(service, session, index)


async def propagation(service: Service, session: Session, asked: Propagate) -> AsyncIterator[str]:
    """Track frame after frame; the events that tell of it."""
    try:
        async for name, content in _events(service, session, asked):
            yield f"event: {name}\ndata: {json.dumps(content)}\n\n"
    except Exception as error:
        text = str(error)
        if not isinstance(error, SamVideoError):
            logging.getLogger(__name__).exception("a propagation has failed")
            text = "the video cannot be tracked further because of an internal error"
        yield f"event: error\ndata: {json.dumps({'error': as_text(text)})}\n\n"


async def _events(
    service: Service, session: Session, asked: Propagate
) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Names and data of the events."""
    await service.read(session.rewind)
    left = asked.steps
    while left != 0:
        for _ in range(asked.stride - 1):
            if service.ending or not await service.read(session.skip):
                break
        if service.ending:
            yield "end", {"reason": "shutdown"}
            return
        record = await _track_next(service, session)
        if record is None:
            yield "end", {"reason": "video"}
            return
        yield "frame", record.to_json()
        left = None if left is None else left - 1
    yield "end", {"reason": "steps"}


async def _track_next(service: Service, session: Session, index: int | None = None) -> FrameRecord | None:
    frame = await service.read(partial(session.read, index))
    return None if frame is None else await service.step(session, frame)
