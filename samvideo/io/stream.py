"""The streaming reader: files, pipes and network streams through PyAV."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from time import monotonic
from typing import Any

import av
import av.error
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from samvideo.errors import VideoError
from samvideo.io.base import VideoSource
from samvideo.io.container import demux, is_address, open_container, video_track
from samvideo.io.deinterlace import Deinterlacer
from samvideo.io.pixels import Orientation, rgb_of
from samvideo.io.timeline import BACK_SECONDS, Timeline, shown_at_rate, stated_seconds
from samvideo.types import Frame, VideoInfo

log = logging.getLogger(__name__)

NO_TIMESTAMPS = 0x80  # flag of a container format, AVFMT_NOTIMESTAMPS
DEFAULT_RATE = Fraction(25)  # where a file states none (raw streams)
JUMP_SECONDS, JUMP_PERIODS = 3600.0, 1000  # a longer gap between two frames is another clock
SEEK_ATTEMPTS = 3  # keyframes tried for one seek before decoding from the beginning
_LIVE = ("rtsp:", "rtsps:", "rtp:", "rtmp:", "udp:", "srt:", "tcp:")
_TEXT = frozenset({"ansi", "bintext", "xbin", "idf"})  # FFmpeg draws text and data files with these
_ASPECTS = Fraction(1, 20), Fraction(20)  # of pixels; others are damaged headers


class StreamSource(VideoSource):
    """Decodes a video with PyAV, one frame at a time, in display order.

    Rotation and mirroring of the container are applied; non-square pixels are not stretched.
    Times are the presentation times, counted from the first frame; a frame without a time (or with one that
    does not advance) follows one frame period after the last. Frames flagged as interlaced are deinterlaced
    (bwdif) at the same rate. See `pixels` for colours, HDR and alpha.

    Broken packets are skipped, counted and logged. If the source can seek, indices then follow the packet table,
    so lost frames leave a gap and `seek` agrees with streaming.

    Args:
        source: what PyAV opens: "file:PATH", an address, or an object with `read`, which is only read forward.
        name: shown to users and used for output files.

    Raises:
        VideoError: it cannot be opened, or contains no frame.
    """

    def __init__(self, source: Any, name: str) -> None:
        self._origin = source
        self._name = name
        self._timeline: Timeline | None = None
        self._interlaced = False
        self._began: float | None = None  # arrival of the first frame
        self._gap = JUMP_SECONDS
        self._pending: VideoFrame | None = None
        self._reformatter = VideoReformatter()
        self._container, self._stream = self._open()
        self._live = self._is_live()
        form = self._container.format
        # JPEGs one after another have no times: what counts is when they arrive.
        self._arrival = is_address(source) and self._live and bool(form.flags & NO_TIMESTAMPS)
        try:
            # AVI has no presentation times, and FFmpeg's guess for reordered frames depends on the start.
            self._untimed = form.name == "avi" and self._stream.codec_context.has_b_frames
            # The header of an AVI also counts repeated frames, which have no entry in its index.
            self._repeats = not self._live and form.name == "avi" and len(self._entries()) != self._stream.frames
            self._restart(0)
            first = self._decode()
            if first is None:
                raise VideoError(
                    f"{name} contains no frame that can be decoded ({self.skipped} broken packets): "
                    "it is empty or cut off; check it with a player"
                )
            self._pending = first
            self._size_wh = first.width, first.height
            self._origin_time = self._time_of(first)
            self._orientation = Orientation.of(first)
            self.info = self._describe()
            if self._untimed and self._repeats:  # then the rate is that of the repeated frames, too
                self.info = replace(self.info, rate=self._table().rate or self.info.rate)
            self._gap = max(float(JUMP_PERIODS / self.info.rate), JUMP_SECONDS)
        except BaseException:
            self._container.close()
            raise

    # --- opening -----------------------------------------------------------------------------------------

    def _open(self) -> tuple[InputContainer, VideoStream]:
        source, remote = self._origin, is_address(self._origin)
        try:
            container = open_container(source)
        except (OSError, ValueError, av.error.FFmpegError) as error:
            hint = "is it a complete video? (an mp4 that is cut off, or piped, needs its index at the front)"
            if isinstance(error, OSError):
                hint = "check the address" if remote else "check the path and its permissions"
            place = source.removeprefix("file:") if isinstance(source, str) else self._name
            raise VideoError(f"{place} cannot be opened as a video ({_reason(error)}): {hint}") from error
        track = video_track(container)
        name = None if track is None else track.codec_context.name
        if track is None or name in _TEXT:
            found = "no video track"
            if container.streams.video:
                found = "text" if name in _TEXT else "a video track of an unknown codec, or a cover picture only"
            container.close()
            raise VideoError(f"{self._name} has {found}: a video that this FFmpeg can decode is expected")
        # Frame threads delay by a frame per thread: irrelevant for files, too late for live sources.
        track.thread_type = "SLICE" if remote else "AUTO"
        return container, track

    def _is_live(self) -> bool:
        source = self._origin
        if not isinstance(source, str) or source.startswith(_LIVE):
            return True
        if is_address(source):
            return self._container.duration is None  # an endless or growing stream
        return not Path(source.removeprefix("file:")).is_file()  # a named pipe

    def _describe(self) -> VideoInfo:
        track = self._stream
        width, height = self._size_wh
        duration = None
        if track.duration and track.time_base:
            duration = float(track.duration * track.time_base)
        elif self._container.duration and not self._live:
            duration = self._container.duration / av.time_base
        return VideoInfo(
            name=self._name,
            size_wh=(height, width) if self._orientation.transpose else (width, height),
            rate=track.average_rate or track.guessed_rate or DEFAULT_RATE,
            frame_count=self._count(),
            duration=duration,
            codec=track.codec_context.codec.name,
            rotation=self._orientation.clockwise,
            has_audio=not self._live and bool(self._container.streams.audio),
            pixel_aspect=self._pixel_aspect(),
            live=self._live,
        )

    def _pixel_aspect(self) -> Fraction:
        aspect = self._stream.sample_aspect_ratio
        if not aspect or not _ASPECTS[0] <= aspect <= _ASPECTS[1]:
            return Fraction(1)
        return 1 / aspect if self._orientation.transpose else aspect

    def _count(self) -> int | None:
        """Return the number of shown frames if the container has a complete table; an edit list may hide some."""
        stated, entries = self._stream.frames, self._entries()
        if self._repeats or (entries and len(entries) != stated):
            return None
        return stated - sum(entry.is_discard for entry in entries) or None

    def _entries(self) -> Sequence[Any]:
        return getattr(self._stream, "index_entries", ())  # PyAV 17 and later

    def length(self) -> int | None:
        """See `VideoSource.length`; one pass over the packets, without decoding."""
        return None if self._live else self._table().shown

    # --- decoding ----------------------------------------------------------------------------------------

    def _restart(self, index: int, packets: Iterable[Any] | None = None) -> None:
        """Discard decoded frames; the next frame will be `index`."""
        self._next_index = index
        self._frames = self._decoded(self._packets() if packets is None else packets)
        self._deinterlacer: Deinterlacer | None = None
        self._pending = None
        self._last_seconds: float | None = None
        self._offset = 0.0  # seconds by which the clock of the file is behind
        self._packets_seen = 0

    def _packets(self) -> Iterator[Any]:
        try:
            yield from demux(self._container, self._stream)
        except (OSError, av.error.FFmpegError) as error:
            raise VideoError(
                f"{self._name} broke off after {self._next_index} frames ({_reason(error)}): "
                "the frames before are good"
            ) from error

    def _decoded(self, packets: Iterable[Any]) -> Iterator[VideoFrame]:
        for packet in packets:
            flush = packet.size == 0 and packet.dts is None
            self._packets_seen += not flush
            if packet.size == 0 and not flush:
                continue  # in AVI: repeat the last frame
            if packet.is_corrupt:
                log.warning("%s: damaged data near frame %d, decoded as possible", self._name, self._next_index)
            try:
                frames = packet.decode()
            except av.error.EOFError:
                return
            except (ValueError, OSError, av.error.FFmpegError) as error:
                self._skip(_reason(error))
                continue
            yield from frames

    def _skip(self, error: object) -> None:
        self.skipped += 1
        log.warning("%s: broken piece skipped near frame %d: %s", self._name, self._next_index, error)
        if not self._live:
            self._table()

    def _decode(self) -> VideoFrame | None:
        """Return the next frame, deinterlaced, in the file's colours and orientation; None at the end."""
        for frame in self._frames:
            if self._deinterlacer is None:
                if not frame.interlaced_frame:
                    return frame
                self._interlaced = True
                self._deinterlacer = Deinterlacer(frame, self._stream.time_base)
            if (ready := self._deinterlacer.push(frame)) is not None:
                return ready
        return None if self._deinterlacer is None else self._deinterlacer.push(None)

    def _time_of(self, frame: VideoFrame) -> Fraction | None:
        """Return the presentation time of a frame, in seconds of the container."""
        ticks = frame.dts if frame.pts is None else frame.pts
        base = frame.time_base or self._stream.time_base
        return None if self._untimed or ticks is None or base is None else ticks * base

    def _take(self) -> tuple[VideoFrame, int, float] | None:
        """Return the next frame with its index and seconds."""
        while (frame := self._pending or self._decode()) is not None:
            self._pending = None
            if (frame.width, frame.height) != self._size_wh:
                raise VideoError(
                    f"{self._name} changes its size at frame {self._next_index}, from "
                    f"{'{}x{}'.format(*self._size_wh)} to {frame.width}x{frame.height}; the frames before are "
                    "good: cut the file there, or scale it to one size first"
                )
            time = self._time_of(frame)
            index = self._index_of(time)
            if index < self._next_index:  # after damage a decoder may return frames late
                self._skip(f"frame {index} was decoded too late")
                continue
            seconds = self._seconds(time, index)
            self._next_index, self._last_seconds = index + 1, seconds
            return frame, index, seconds
        return None

    def _index_of(self, time: Fraction | None) -> int:
        known = None
        if self.skipped and time is not None and self._timeline is not None and self._timeline.exact:
            known = self._timeline.index_of(time)
        return self._next_index if known is None else known

    def _seconds(self, time: Fraction | None, index: int) -> float:
        last, period = self._last_seconds, float(1 / self.info.rate)
        seconds = self._stated(time, index)
        if last is None:
            return index * period if seconds is None else seconds
        if seconds is None:
            return last + period
        if seconds - last > self._gap or last - seconds > BACK_SECONDS:
            log.warning("%s: its clock jumps by %.3f s at frame %d", self._name, seconds - last, index)
            self._offset += last + period - seconds
        return seconds if last < seconds <= last + self._gap else last + period

    def _stated(self, time: Fraction | None, index: int) -> float | None:
        """Return the seconds of a frame by the clock of its source."""
        if self._arrival:
            now = monotonic()
            self._began = now if self._began is None else self._began
            return now - self._began
        if self._untimed and self._repeats and index < len(self._table().times):
            return self._table().seconds(index)
        return None if time is None or self._origin_time is None else float(time - self._origin_time) + self._offset

    def _read(self) -> Frame | None:
        taken = self._take()
        if taken is None:
            self._check_end()
            return None
        frame, index, seconds = taken
        return Frame(index, seconds, self._orientation.apply(rgb_of(frame, self._reformatter)))

    def _check_end(self) -> None:
        """Raise VideoError if the file ends earlier than its container states; all good frames were read before."""
        got, promised = self._next_index, self._stream.frames
        if not self._repeats:  # what an edit list hides is not in the index, but counted
            promised = min(promised, len(self._entries()) or promised)
        short = got < promised
        if short:  # a table may count frames that are never shown; only missing packets are a loss
            short = (self._packets_seen if self._live else self._table().packets) < promised
        if short and self._repeats:  # the file is whole if the packets reach as far as the header says
            short = self._table().end < promised
        total = f"{got} of {self.info.frame_count or promised} frames"
        stated = stated_seconds(self._stream.metadata)
        if not short and stated is not None and self._last_seconds is not None:
            short = self._last_seconds + float(3 / self.info.rate) + 0.5 < stated
            total = f"{got} frames, {self._last_seconds:.2f} of {stated:.2f} seconds"
        if short:
            raise VideoError(
                f"{self._name} broke off after {total}: the file is cut short; the frames before are good, "
                "fetch the file again for the rest"
            )

    # --- seeking -----------------------------------------------------------------------------------------

    def seek(self, index: int) -> None:
        """See `VideoSource.seek`; broken packets before the frame count as frames.

        Decoding starts at a keyframe or, if the container's times do not identify each frame, at the beginning.
        """
        self._check_index(index)
        if index == self._next_index:
            return
        if self._live:
            raise VideoError(
                f"{self._name} is a live stream or a pipe at frame {self._next_index} and cannot go to {index}; "
                "save it to a file first"
            )
        table = self._table()
        if table.exact and not self._untimed:
            if index >= len(table.times):
                raise VideoError(f"{self._name} has no frame {index}: it ends after {len(table.times)} frames")
            if self._jump(table, index):
                return
        self._decode_up_to(index)

    def index_at(self, seconds: float) -> int | None:
        """See `VideoSource.index_at`; None for live streams, pipes, and files in which frames share a time."""
        if self._live:
            return None
        table = self._table()
        if not table.times:
            return shown_at_rate(seconds, self.info.rate, self.length())
        if self._untimed:
            return table.index_at(seconds, table.times[0] * table.time_base, 1 / self.info.rate)
        if not table.exact or self._origin_time is None:
            return None
        return table.index_at(seconds, self._origin_time, 1 / self.info.rate)

    def _table(self) -> Timeline:
        """Return the times of all packets, read once through a second handle."""
        if self._timeline is None:
            container, track = self._open()
            with container:
                self._timeline = Timeline.of(
                    demux(container, track, strict=False),
                    track.time_base or Fraction(1),
                    untimed=self._untimed,
                    jump=self._gap,
                )
        return self._timeline

    def _jump(self, table: Timeline, index: int) -> bool:
        """Seek to a keyframe and decode up to the frame; False if none leads to its exact time."""
        target = table.times[index] * table.time_base
        # The deinterlacer needs the frames before; otherwise a keyframe is enough.
        settled = max(index - 2, 0) if self._interlaced else index
        for latest, place in islice(table.starts(settled), SEEK_ATTEMPTS):
            try:
                self._container.seek(place, stream=self._stream, backward=True)
            except (OSError, av.error.FFmpegError):
                return False
            self._restart(index, self._from_key(latest))
            while (frame := self._decode()) is not None:
                time = self._time_of(frame)
                if time == target:
                    self._pending = frame
                    return True
                if time is None or time > target:
                    break
        return False

    def _from_key(self, latest: Fraction) -> Iterator[Any]:
        """Yield packets from the first keyframe on; none if it is later than `latest`."""
        packets = self._packets()
        for packet in packets:
            if packet.is_keyframe and packet.pts is not None:
                if packet.pts * packet.time_base <= latest:
                    yield from chain([packet], packets)
                return

    def _decode_up_to(self, index: int) -> None:
        """Decode from the beginning up to frame `index`, exclusive."""
        self._container.close()
        self._container, self._stream = self._open()
        self._restart(0)
        while self._next_index < index:
            if self._take() is None:
                raise VideoError(f"{self._name} has no frame {index}: it ends after {self._next_index} frames")

    def _release(self) -> None:
        self._restart(self._next_index, ())
        self._container.close()


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
