"""Bodies of requests, of which never more is read than allowed."""

from collections.abc import AsyncIterator, Mapping

from samvideo.errors import SamVideoError


class TooLarge(SamVideoError):
    """A request's body is over its limit."""


async def limited(chunks: AsyncIterator[bytes], headers: Mapping[str, str], limit: int) -> AsyncIterator[bytes]:
    """Yield the chunks of a body; TooLarge as soon as more than `limit` bytes are announced or have come."""
    too_large = TooLarge(f"at most {limit} bytes expected")
    if int(headers.get("content-length", "0")) > limit:  # h11 refuses what is not a number
        raise too_large
    count = 0
    async for chunk in chunks:
        count += len(chunk)
        if count > limit:
            raise too_large
        yield chunk


async def whole(chunks: AsyncIterator[bytes], headers: Mapping[str, str], limit: int) -> bytes:
    """Read a body to its end; errors as of `limited`."""
    return b"".join([chunk async for chunk in limited(chunks, headers, limit)])
