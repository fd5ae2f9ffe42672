"""Single frames of a video as the page needs them: exact, at screen size, as JPEG.

Threads: any may read frames; a lock in each `FrameStore` guards its decoder and its cache.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import cv2

from samvideo.errors import VideoError
from samvideo.geometry import fit_size, resize_rgb
from samvideo.io.source import VideoSource
from samvideo.types import Frame, UInt8Array, VideoInfo
from samvideo.web.annotations import check_frame

WIDTHS = (480, 854, 1280, 1920, 3840)  # of frames for the page; a request takes the next larger one
THUMB = 160  # longer side of a thumbnail in pixels
QUALITY = 88
FRAMES = 3  # kept at video size: 25 MB each in 4K
BYTES = 64 << 20  # of JPEGs kept
LOOK_BACK = 8  # frames made at once when going back, so that stepping back need not seek every time
NEAR = 24  # frames ahead that are reached by decoding on instead of seeking


def jpeg(rgb: UInt8Array, longest: int) -> bytes:
    """Encode an image as JPEG, its longer side at most `longest`."""
    small = resize_rgb(rgb, fit_size((rgb.shape[1], rgb.shape[0]), longest))
    done, data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise VideoError("a frame could not be encoded as JPEG")
    return data.tobytes()


class Picture(NamedTuple):
    """A frame as JPEG, shown from `seconds`."""

    data: bytes
    seconds: float


class FrameStore:
    """Frames of one open source, with those used last kept.

    Args:
        open_source: called once, at the first request; the source must be able to seek.
    """

    def __init__(self, open_source: Callable[[], VideoSource]) -> None:
        self._open = open_source
        self._lock = threading.Lock()
        self._source: VideoSource | None = None
        self._closed = False
        self._next = 0
        self._frames: OrderedDict[int, Frame] = OrderedDict()
        self._pictures: OrderedDict[tuple[int, int], Picture] = OrderedDict()
        self._bytes = 0

    def frame(self, index: int) -> Frame:
        """Frame `index` at video size. Raises VideoError when there is none."""
        with self._lock:
            return self._frame(index, index)

    def picture(self, index: int, width: int) -> Picture:
        """Frame `index` as JPEG, at least `width` pixels on its longer side where the video has them."""
        longest = next((w for w in WIDTHS if w >= width), WIDTHS[-1])
        with self._lock:
            picture = self._pictures.get((index, longest))
            if picture is None:
                back = index < self._next
                frame = self._frame(index, max(0, index - LOOK_BACK) if back else index, longest)
                picture = self._keep(frame, longest)
            self._pictures.move_to_end((index, longest))
            return picture

    def _frame(self, index: int, begin: int, longest: int | None = None) -> Frame:
        if index in self._frames:
            self._frames.move_to_end(index)
            return self._frames[index]
        if self._closed:
            raise VideoError("the video is closed: the page has ended")
        source = self._source = self._source or self._open()
        if not self._next <= index < self._next + NEAR:
            source.seek(begin)
        for frame in source:
            self._next = frame.index + 1
            self._frames[frame.index] = frame
            if len(self._frames) > FRAMES:
                self._frames.popitem(last=False)
            if longest is not None and frame.index >= begin:
                self._keep(frame, longest)
            if frame.index == index:
                return frame
            if frame.index > index:
                break
        raise VideoError(f"{source.info.name} has no readable frame {index}")

    def _keep(self, frame: Frame, longest: int) -> Picture:
        key = frame.index, longest
        if key not in self._pictures:
            self._pictures[key] = Picture(jpeg(frame.rgb, longest), frame.seconds)
            self._bytes += len(self._pictures[key].data)
            while self._bytes > BYTES and len(self._pictures) > 1:
                self._bytes -= len(self._pictures.popitem(last=False)[1].data)
        return self._pictures[key]

    def close(self) -> None:
        """Close the source; from now on there are no frames."""
        with self._lock:
            self._closed = True
            if self._source is not None:
                self._source.close()


class Media:
    """The video that the pages show.

    Args:
        info: of the video; its `frame_count` must be known.
        open_source: opens it; the source must be able to seek.
    """

    def __init__(self, info: VideoInfo, open_source: Callable[[], VideoSource]) -> None:
        assert info.frame_count is not None
        self.info, self.count = info, info.frame_count
        # Two readers, so that frames do not wait for thumbnails.
        self._frames, self._thumbnails = FrameStore(open_source), FrameStore(open_source)

    def frame(self, index: int, width: int) -> Picture:
        """Frame `index` as JPEG for a place `width` pixels wide. Raises PromptError when there is none."""
        check_frame(index, self.count)
        return self._frames.picture(index, width)

    def exact(self, index: int) -> Frame:
        """Frame `index` at video size. Raises VideoError when there is none."""
        return self._frames.frame(index)

    def thumbnail(self, index: int) -> bytes:
        """Frame `index` as a small JPEG. Raises PromptError when there is none."""
        check_frame(index, self.count)
        width, height = self.info.size_wh
        displayed_wh = round(width * self.info.pixel_aspect), height
        return jpeg(resize_rgb(self._thumbnails.frame(index).rgb, fit_size(displayed_wh, THUMB)), THUMB)

    def close(self) -> None:
        """Close both readers."""
        self._frames.close()
        self._thumbnails.close()
