"""Containers as FFmpeg opens them: addresses and paths, the tracks that players take, packets without errors."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from samvideo.errors import VideoError

MAX_ERRORS = 64  # consecutive demuxing errors after which a source is given up
# FFmpeg's names of formats that hold a video themselves; a playlist makes it open other files and addresses.
WHOLE = "mov,matroska,avi,mpegts,mpeg,mpegvideo,ogg,flv,asf,mxf,ivf,h264,hevc,yuv4mpegpipe,gif"
MOVIES = frozenset((".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".ts"))
"""Suffixes by which files are taken for videos without opening them."""
NETWORK_SECONDS = 15.0  # without data, after which an address is given up
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_address(source: object) -> bool:
    """Return whether `source` is an address, such as https://…, and not the path of a file."""
    return isinstance(source, str) and _ADDRESS.match(source) is not None


def url_of(source: Path | str) -> str:
    """Return an address as it is, a path as file:PATH: FFmpeg takes what precedes a colon for a protocol.

    As in `open_video`, `~` of a text is the home folder; a Path is taken as it is.
    """
    if is_address(source):
        return str(source)
    return f"file:{Path(source).expanduser() if isinstance(source, str) else source}"


def open_container(source: Any) -> InputContainer:
    """Open what `url_of` returns, or an object with `read`. Raises av's errors."""
    remote = is_address(source)
    options = {"rtsp_transport": "tcp"} if remote and source.startswith("rtsp") else {}
    return av.open(source, "r", options=options, timeout=NETWORK_SECONDS if remote else None)


def check_whole(path: Path) -> None:
    """Raise VideoError for a file that is not a video, or that may refer to others, without opening those."""
    try:
        av.open(url_of(path), "r", options={"format_whitelist": WHOLE}).close()
    except (OSError, av.error.FFmpegError) as error:
        raise VideoError(
            "the file is not a video, or of a kind that is not read here: MP4 or Matroska expected"
        ) from error


def video_track(container: InputContainer) -> VideoStream | None:
    """Return the track that players show, of known codec and no cover: the default, the largest, the longest."""
    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    return max(
        (s for s in container.streams.video if s.codec_context is not None and not s.disposition & pictures),
        key=lambda s: (bool(s.disposition & Disposition.default), s.width * s.height, s.frames),
        default=None,
    )


def audio_track(container: InputContainer) -> AudioStream | None:
    """Return the default audio track, else the first; None if FFmpeg knows the codec of none."""
    tracks = (s for s in container.streams.audio if s.codec_context is not None)
    return max(tracks, key=lambda s: bool(s.disposition & Disposition.default), default=None)


def demux(container: InputContainer, track: VideoStream, strict: bool = True) -> Iterator[Any]:
    """Yield the packets of a track and skip errors; after `MAX_ERRORS` in a row stop, or raise if `strict`."""
    errors = 0
    while errors <= MAX_ERRORS:
        try:
            for packet in container.demux(track):
                errors = 0
                yield packet
            return
        except av.error.EOFError:
            return
        except (OSError, av.error.FFmpegError) as error:
            errors += 1
            gone = isinstance(error, (TimeoutError, ConnectionError, av.error.ExitError))
            if gone or errors > MAX_ERRORS:
                if strict:
                    raise
                return
