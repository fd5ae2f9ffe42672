"""Random access through decord, where it is installed (it has no wheel for Arm). The only file that imports it."""

from pathlib import Path
from typing import Any

from samvideo.errors import ConfigError, VideoError
from samvideo.io.base import Reader
from samvideo.io.stream import StreamSource
from samvideo.types import Frame, VideoInfo


class DecordSource(Reader):
    """A video file by decord; sizes and times are those of `StreamSource`, colours differ by rounding.

    decord neither turns pictures nor tells that they should be turned, and counts pictures that an edit list
    hides, so files with either are refused.

    Raises:
        ConfigError: decord is not installed.
        VideoError: the file cannot be opened, or is of a kind that decord reads wrongly.
    """

    def __init__(self, path: Path) -> None:
        try:
            import decord
        except ImportError as error:
            raise ConfigError(
                "reader='decord' needs decord, which is not installed: pip install decord (x86 Linux and Windows "
                "only; elsewhere leave the option out, the stream reader seeks exactly too)"
            ) from error
        with StreamSource(f"file:{path}", path.stem) as plain:
            stated = plain.info
        if stated.rotation:
            raise VideoError(f"{path} is turned by {stated.rotation} degrees, which decord ignores: leave it out")
        try:
            self._reader: Any = decord.VideoReader(str(path), num_threads=1)
        except (decord.DECORDError, RuntimeError) as error:
            raise VideoError(f"{path} cannot be opened by decord: {error}") from error
        self._place = 0
        count = len(self._reader)
        self.info = VideoInfo(
            stated.name,
            stated.size_wh,
            stated.rate,
            count,
            stated.duration,
            stated.codec,
            stated.rotation,
            stated.has_audio,
        )

    def _read(self) -> Frame | None:
        if self._place >= len(self._reader):
            return None
        rgb = self._reader[self._place].asnumpy()
        seconds = float(self._reader.get_frame_timestamp(self._place)[0])
        self._place += 1
        return Frame(self._place - 1, seconds, rgb)

    def seek(self, index: int) -> None:
        """Make `index` the next frame."""
        self._check_index(index)
        self._place = index

    def _release(self) -> None:
        self._reader = None
