"""What a server allows, and how it refuses."""

from dataclasses import dataclass

from samvideo.errors import SamVideoError


@dataclass(frozen=True)
class Limits:
    """What a server allows.

    Attributes:
        sessions: open at a time, of all tokens.
        objects: tracked in one session; its memory grows with them.
        upload_bytes: of a video.
        image_bytes: of a frame.
        json_bytes: of any other request; a mask as RLE is the largest.
        pixels: of a frame.
        idle_seconds: without a request, after which a session is closed.
        body_seconds: in which the next part of the body of a request must arrive.
    """

    sessions: int = 64
    objects: int = 32
    upload_bytes: int = 1 << 30
    image_bytes: int = 32 << 20
    json_bytes: int = 4 << 20
    pixels: int = 3840 * 2160
    idle_seconds: float = 600.0
    body_seconds: float = 30.0


class Refusal(SamVideoError):
    """A request that cannot be answered now, with the status of the response, such as 409."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
