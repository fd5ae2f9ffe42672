"""Video writer: H.264 in mp4 with the audio of the source."""

import contextlib
import errno
import heapq
import logging
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.audio.resampler import AudioResampler
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from samvideo.errors import ConfigError, OutputError
from samvideo.io.base import Closing
from samvideo.io.container import audio_track, open_container, url_of, video_track
from samvideo.io.files import unfinished
from samvideo.types import UInt8Array

log = logging.getLogger(__name__)

TIME_BASE = Fraction(1, 90000)
BT709 = 1  # ITU-T H.273: primaries, transfer and matrix alike
COPIED = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus"})  # supported by mp4 and players
MAX_GAP = 2**30  # units of TIME_BASE between two frames, 3.3 hours; an mp4 holds twice that
AV_ERRORS = (OSError, ValueError, av.error.FFmpegError)
WHERE = "check the folder and its permissions"


def reason_of(error: Exception, otherwise: str = "") -> str:
    """Return the reason of a writing error, followed by what to do: about a full disk, or `otherwise`."""
    text = str(getattr(error, "strerror", None) or error)
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    hint = "is the disk full?" if full else otherwise
    return f"{text}; {hint}" if hint else text


class VideoWriter(Closing):
    """Writes RGB frames to an mp4: H.264, yuv420p, BT.709, index at the front; times count from the first frame.

    The file grows under its own name in fragments of one frame, which play without an index: a process that is
    killed, or a full disk, leaves all but the last frame or two. `close` copies the fragments and the audio into an
    ordinary mp4, which replaces them; if that fails (a full disk), they stay and OutputError is raised. Leaving the
    `with` block closes, also on errors and Ctrl-C. A file that exists is kept until the new one is complete, which
    grows as `.NAME.part` meanwhile. Odd sizes are padded to even ones by repeating the edge. Without frames no file
    is written. Audio that cannot be copied or encoded is left out with a warning.

    Args:
        path: the file to write, ending in .mp4; replaced if it exists.
        size_wh: of the frames, in pixels.
        rate: frames per second; sets only the duration of the last frame, since `write` gets times.
        audio_from: file or address to take the audio from.
        crf: quality of H.264, 0 (lossless) to 51; 18 is visually close to the source.
        pixel_aspect: see `VideoInfo`.

    Raises:
        OutputError: the file cannot be written.
        ConfigError: another suffix, or a size or rate below 1.
    """

    def __init__(
        self,
        path: Path | str,
        size_wh: tuple[int, int],
        rate: Fraction | float,
        *,
        audio_from: Path | str | None = None,
        crf: int = 18,
        pixel_aspect: Fraction = Fraction(1),
    ) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() != ".mp4" or min(size_wh) < 1 or not rate > 0:
            raise ConfigError(f"a .mp4 file, a size and a rate above 0 expected, not {path}, {size_wh}, {rate}")
        self.frames = 0
        self._size_wh = size_wh
        self._start, self._audio_from = 0.0, audio_from
        self._period = max(1, round(1 / (rate * TIME_BASE)))
        self._last_pts = -1
        self._closed = False
        self._reformatter = VideoReformatter()
        self._part = unfinished(self.path) if os.path.lexists(self.path) else self.path
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            options = {"movflags": "frag_every_frame+empty_moov+default_base_moof", "flush_packets": "1"}
            self._container: OutputContainer = av.open(url_of(self._part), "w", format="mp4", options=options)
            self._stream = self._add_stream(Fraction(rate).limit_denominator(1001), crf, pixel_aspect)
            self._container.start_encoding()  # creates the file
        except AV_ERRORS as error:
            self.discard()
            raise OutputError(f"{self.path} cannot be written: {reason_of(error, WHERE)}") from error

    def _add_stream(self, rate: Fraction, crf: int, pixel_aspect: Fraction) -> Any:
        # Every frame leaves the encoder at once, in display order, so that it is in the file when `write` returns.
        group = max(1, min(250, round(2 * rate)))
        options = {"crf": str(crf), "preset": "veryfast", "tune": "zerolatency"}
        stream = self._container.add_stream("libx264", rate=rate, options=options)
        context = stream.codec_context
        context.width, context.height = (side + side % 2 for side in self._size_wh)
        context.sample_aspect_ratio = pixel_aspect
        context.pix_fmt, context.gop_size, context.time_base = "yuv420p", group, TIME_BASE
        context.color_range, context.colorspace = ColorRange.MPEG, BT709
        context.color_primaries, context.color_trc = BT709, BT709
        stream.time_base = TIME_BASE
        return stream

    def write(self, rgb: UInt8Array, seconds: float) -> None:
        """Append one frame: uint8 (H, W, 3), shown from `seconds` of the source until the next frame.

        Raises:
            OutputError: the disk is full or the like; what was written before stays readable.
            ConfigError: the frame has another size.
        """
        if self._closed:
            raise OutputError(f"{self.path} is closed: nothing more can be written")
        if rgb.dtype != np.uint8 or rgb.shape != (*self._size_wh[::-1], 3):
            width, height = self._size_wh
            raise ConfigError(f"uint8 ({height}, {width}, 3) expected for {self.path}, not {rgb.dtype} {rgb.shape}")
        height, width = rgb.shape[:2]
        if height % 2 or width % 2:
            rgb = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = self._reformatter.reformat(
            VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        frame.color_primaries = frame.color_trc = BT709
        frame.pts, frame.time_base = self._place(seconds), TIME_BASE
        self._mux(frame)
        self.frames += 1

    def _place(self, seconds: float) -> int:
        """Return the time of the next frame in the file: later than the last one, by a gap that an mp4 holds."""
        if not self.frames:
            self._start = seconds
        pts = max(self._last_pts + 1, round((seconds - self._start) / TIME_BASE))
        excess = pts - self._last_pts - MAX_GAP
        if self.frames and excess > 0:
            self._start += float(excess * TIME_BASE)
            pts -= excess
        self._last_pts = pts
        return pts

    def _mux(self, frame: VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(frame):
                packet.duration = self._period
                self._container.mux_one(packet)
        except AV_ERRORS as error:
            raise OutputError(
                f"{self.path} cannot be continued after {self.frames} frames: {reason_of(error)}"
            ) from error

    def close(self) -> None:
        """Finish the file; after an OutputError, what was written before is at `path` and plays."""
        if self._closed:
            return
        self._closed = True
        failure: Exception | None = None
        if self.frames:
            try:
                self._mux(None)
            except OutputError as error:
                failure = error
        try:
            self._container.close()
        except AV_ERRORS as error:
            failure = failure or error
        if not self.frames:
            self._part.unlink(missing_ok=True)
            return
        failure = failure or self._finish()
        if failure is not None:
            kept = "what was written plays" if self._keep() else "nothing of it could be written"
            raise OutputError(f"{self.path} could not be finished, {kept}: {reason_of(failure)}") from failure

    def discard(self) -> None:
        """Close and remove what was written; a file that was there before stays as it was."""
        self._closed = True
        with contextlib.suppress(AttributeError, *AV_ERRORS):  # it may not have been opened
            self._container.close()
        with contextlib.suppress(OSError):
            self._part.unlink()

    def _keep(self) -> bool:
        """Move the fragments to `path` and return True, or remove them if they contain no frame."""
        try:
            with av.open(url_of(self._part), "r") as written:
                kept = any(packet.size for packet in written.demux(video=0))
            if kept:
                self._part.replace(self.path)
                return True
        except AV_ERRORS:
            pass
        with contextlib.suppress(OSError):
            self._part.unlink()
        return False

    def _finish(self) -> Exception | None:
        """Copy the fragments into a file with its index at the front, with audio if possible."""
        seconds = float((self._last_pts + self._period) * TIME_BASE)
        methods = ("copy", "encode", "none") if self._audio_from is not None else ("none",)
        failure: Exception | None = None
        for method in methods:
            complete = self.path.with_name(f".{self.path.name}.whole")
            try:
                _assemble(self._part, complete, _Audio(self._audio_from, self._start, seconds, method))
                complete.replace(self.path)
                if self._part != self.path:
                    self._part.unlink()
            except Exception as error:  # whatever FFmpeg makes of a strange sound track, it never costs the video
                failure = error
                continue
            finally:
                with contextlib.suppress(OSError):
                    complete.unlink(missing_ok=True)
            if failure is not None and method == "none":
                log.warning("%s: written without the audio of %s: %s", self.path, self._audio_from, failure)
            return None
        return failure


class _Audio:
    """The audio of a source between two times, as packets for an mp4.

    `method` is "copy" (unchanged packets, if mp4 supports their codec), "encode" (to AAC) or "none".
    """

    def __init__(self, source: Path | str | None, start: float, seconds: float, method: str) -> None:
        self._start, self._seconds, self._method = start, seconds, method
        self._input: Any = None
        self._in: Any = None
        self._out: Any = None
        if source is None or method == "none":
            return
        self._input = open_container(url_of(source))
        self._in = audio_track(self._input)
        if self._in is None and self._input.streams.audio:
            raise ValueError("its codec is unknown")
        # Times of the source count from its first frame, as in the readers.
        video = video_track(self._input)
        if video is not None and video.start_time is not None and video.time_base:
            self._start += float(video.start_time * video.time_base)

    def join(self, output: OutputContainer) -> None:
        """Add the track to `output`; ValueError if its codec cannot be copied."""
        if self._in is None:
            return
        if self._method == "encode":
            self._out = output.add_stream("aac", rate=self._in.rate)
        elif self._in.codec_context.name not in COPIED:
            raise ValueError(f"mp4 does not support {self._in.codec_context.name} audio")
        else:
            self._out = output.add_stream_from_template(self._in)

    def packets(self) -> Iterator[Any]:
        """Yield the packets in order, with times from the start of the written file."""
        if self._in is None:
            return
        if self._start > 1:  # one second early: some formats seek coarsely
            with contextlib.suppress(av.error.FFmpegError):
                self._input.seek(int((self._start - 1) * av.time_base))
        yield from self._encoded() if self._method == "encode" else self._copied()

    def _copied(self) -> Iterator[Any]:
        for packet in self._kept(packet for packet in self._demuxed() if packet.size):
            packet.pts = packet.dts = round(self._place(packet) / packet.time_base)
            packet.stream = self._out
            yield packet

    def _encoded(self) -> Iterator[Any]:
        context = self._out.codec_context
        resampler = AudioResampler(format=context.format, layout=context.layout, rate=context.rate)
        base = Fraction(1, context.rate)
        samples = 0
        for frame in chain(self._kept(self._decoded()), [None]):  # None flushes the resampler
            for piece in resampler.resample(frame):
                if samples == 0 and frame is not None:
                    samples = round(self._place(frame) / base)
                piece.pts, piece.time_base = samples, base
                samples += piece.samples
                yield from self._out.encode(piece)
        yield from self._out.encode(None)

    def _demuxed(self) -> Iterator[Any]:
        """Yield the packets of the track up to the first error of the file."""
        try:
            yield from self._input.demux(self._in)
        except AV_ERRORS as error:
            log.warning("the audio breaks off: %s", reason_of(error))

    def _decoded(self) -> Iterator[Any]:
        """Yield the decoded frames of the track without its broken packets."""
        broken = 0
        for packet in self._demuxed():
            try:
                yield from packet.decode()
            except av.error.EOFError:
                return
            except AV_ERRORS:
                broken += 1
        if broken:
            log.warning("the audio has %d broken pieces, which are left out", broken)

    def _kept(self, pieces: Iterable[Any]) -> Iterator[Any]:
        """Yield the packets or frames that start within the written file, each later than the one before."""
        last = -1.0
        for piece in pieces:
            if piece.pts is None:
                continue
            place = self._place(piece)
            if place >= self._seconds:
                if 0 <= last < self._seconds - 1:  # by another clock, or a long gap
                    log.warning("the audio breaks off after %.1f of %.1f s", last, self._seconds)
                return
            if place >= 0 and place > last:
                last = place
                yield piece

    def _place(self, piece: Any) -> float:
        """Return seconds from the start of the written file."""
        place = float(piece.pts * piece.time_base) - self._start
        # Less than a millisecond early is a rounding error.
        return max(place, 0.0) if place > -0.001 else place

    def close(self) -> None:
        if self._input is not None:
            self._input.close()


def _assemble(part: Path, complete: Path, audio: _Audio) -> None:
    """Copy the video track of `part` and the audio to `complete`, in order of time."""
    with (
        contextlib.closing(audio),
        av.open(url_of(part), "r") as source,
        av.open(url_of(complete), "w", format="mp4", options={"movflags": "+faststart"}) as output,
    ):
        track = source.streams.video[0]
        copied = output.add_stream_from_template(track)
        audio.join(output)

        def video_packets() -> Iterator[Any]:
            for packet in source.demux(track):
                if packet.size:
                    packet.stream = copied
                    yield packet

        # Encoded packets have no time base of their own until muxed; that of their stream applies.
        for packet in heapq.merge(video_packets(), audio.packets(), key=lambda p: p.dts * p.time_base):
            output.mux_one(packet)
