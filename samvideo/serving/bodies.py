"""Bodies of requests, which must keep coming."""

import asyncio

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
