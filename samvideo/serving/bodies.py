"""Bodies of requests: they must keep coming, and leave nothing on the disk if they break off."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from samvideo.serving.limits import Refusal
from samvideo.web.guard import Message, Receive

GONE = {"type": "http.disconnect"}


class TimedBody:
    """The messages of a request. A client that sends no more of the body in time counts as one that has gone.

    Args:
        receive: of the request.
        seconds: in which the next part of the body must arrive, once it is asked for.

    Attributes:
        late: whether it did not.
    """

    def __init__(self, receive: Receive, seconds: float) -> None:
        self._receive, self._seconds = receive, seconds
        self._complete = False
        self.late = False

    async def receive(self) -> Message:
        """The next message."""
        if self.late:
            return dict(GONE)
        try:
            message = await asyncio.wait_for(self._receive(), None if self._complete else self._seconds)
        except asyncio.TimeoutError:
            self.late = True
            return dict(GONE)
        self._complete = not message.get("more_body", False)
        return message


async def store(path: Path, parts: AsyncIterator[bytes]) -> None:
    """Write a body to a file, of which nothing is left if that fails; Refusal, 507, if there is no room."""
    try:
        with path.open("wb") as file:
            async for part in parts:
                file.write(part)
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise Refusal(507, f"the video cannot be stored here: {error.strerror}") from error
        raise
