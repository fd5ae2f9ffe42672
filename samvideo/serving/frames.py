"""Frames and videos as clients send them, checked before they are decoded."""

import io
from pathlib import Path

from PIL import Image

from samvideo.errors import VideoError
from samvideo.io.base import VideoSource
from samvideo.io.container import check_whole
from samvideo.io.images import read_rgb
from samvideo.io.source import open_video
from samvideo.serving.limits import Refusal
from samvideo.types import UInt8Array

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")


def read_frame(data: bytes, most_pixels: int) -> UInt8Array:
    """Decode an image to uint8 RGB (H, W, 3).

    Raises:
        VideoError: it is none, or damaged.
        Refusal: it is larger than allowed, by its header.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            size_wh = image.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Refusal(413, f"the frame is too large: {error}") from None
    except Exception as error:  # Pillow raises nearly anything for damaged data
        raise VideoError(f"the body is not an image: one frame as {', '.join(FORMATS)} expected") from error
    _check_size(size_wh, most_pixels)
    return read_rgb(data)


def open_upload(path: Path, most_pixels: int) -> VideoSource:
    """Open a video that was uploaded; errors as of `read_frame`."""
    check_whole(path)
    video = open_video(path)
    try:
        _check_size(video.info.size_wh, most_pixels)
    except Refusal:
        video.close()
        raise
    return video


def _check_size(size_wh: tuple[int, int], most_pixels: int) -> None:
    width, height = size_wh
    if width * height > most_pixels:
        raise Refusal(413, f"a frame is {width}x{height}: at most {most_pixels} pixels expected, scale it down")
