"""Deinterlacing of frames that are flagged as interlaced."""

from fractions import Fraction

import av.error
import av.filter
from av.video.frame import VideoFrame


class Deinterlacer:
    """FFmpeg's bwdif filter at the input rate, with a delay of one frame."""

    def __init__(self, frame: VideoFrame, time_base: Fraction | None) -> None:
        self._size = width, height = frame.width, frame.height
        self._graph = graph = av.filter.Graph()
        source = graph.add_buffer(width=width, height=height, format=frame.format, time_base=time_base)
        bwdif = graph.add("bwdif", "mode=send_frame:deint=interlaced")
        graph.link_nodes(source, bwdif, graph.add("buffersink"))
        graph.configure()
        self._ended = False

    def push(self, frame: VideoFrame | None) -> VideoFrame | None:
        """Push one frame, or None at the end (repeatedly); return a finished frame if there is one."""
        if frame is not None and (frame.width, frame.height) != self._size:
            return frame  # the reader reports the changed size
        if frame is not None or not self._ended:
            self._ended = frame is None
            self._graph.vpush(frame)
        try:
            return self._graph.vpull()
        except (BlockingIOError, av.error.EOFError):
            return None
