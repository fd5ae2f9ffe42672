"""The video writer: H.264 in mp4, with the source's sound. The only writer that imports av."""

import contextlib
import heapq
import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.audio.resampler import AudioResampler
from av.container import InputContainer, OutputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from samvideo.errors import ConfigError, OutputError
from samvideo.io.base import Closing
from samvideo.types import UInt8Array

log = logging.getLogger(__name__)

TIME_BASE = Fraction(1, 90000)
BT709 = 1  # ITU-T H.273: primaries, transfer and matrix alike
COPIED = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus"})  # sound that mp4 carries and players play
_AV_ERRORS = (OSError, ValueError, av.error.FFmpegError)


class VideoWriter(Closing):
    """Writes RGB frames to an mp4: H.264, yuv420p, BT.709, at the times given, index at the front.

    Frames go to `.NAME.part` beside `path`, in fragments that play without an index, whatever happens to the
    program or the disk. `close` gives it the index and the sound and puts it at `path`; leaving the `with` block
    closes, also on errors and Ctrl-C. Where that last step fails (a full disk), the fragments themselves are put
    at `path`, still playable, and OutputError tells. Odd sizes are padded to even ones by repeating the edge.
    No frame, no file. Sound that cannot be carried over is left out with a warning.

    Args:
        path: the file to write, ending in .mp4; replaced if it exists.
        size_wh: of the frames, in pixels.
        rate: frames per second; the times given to `write` decide, this sets the last frame's duration.
        audio_from: the source file or address whose sound is wanted.
        start_seconds: the source's time at which the written file begins.
        crf: H.264's quality, 0 (lossless) to 51; 18 looks like the source.

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
        start_seconds: float = 0.0,
        crf: int = 18,
    ) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() != ".mp4" or min(size_wh) < 1 or not rate > 0:
            raise ConfigError(f"a .mp4, a size and a rate above 0 expected, not {path}, {size_wh}, {rate}")
        self.frames = 0
        self._size_wh = size_wh
        self._start, self._audio_from = start_seconds, audio_from
        self._period = max(1, round(1 / (rate * TIME_BASE)))
        self._part = self.path.with_name(f".{self.path.name}.part")
        self._last_pts = -1
        self._held: Any = None  # the newest packet, until the next one tells how long it lasts
        self._closed = False
        self._reformatter = VideoReformatter()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container: OutputContainer = av.open(
                str(self._part),
                "w",
                format="mp4",
                options={"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"},
            )
            self._stream = self._add_stream(Fraction(rate).limit_denominator(1001), crf)
        except _AV_ERRORS as error:
            raise OutputError(
                f"{self.path} cannot be written: {error}; check the folder and its permissions"
            ) from error

    def _add_stream(self, rate: Fraction, crf: int) -> Any:
        # No B-frames: then decoding order is display order, and a cut-off file ends with its last frame.
        group = max(1, min(250, round(2 * rate)))
        options = {"crf": str(crf), "preset": "veryfast", "bf": "0", "rc-lookahead": "10"}
        stream = self._container.add_stream("libx264", rate=rate, options=options)
        context = stream.codec_context
        context.width, context.height = (side + side % 2 for side in self._size_wh)
        context.pix_fmt, context.gop_size, context.time_base = "yuv420p", group, TIME_BASE
        context.color_range, context.colorspace = ColorRange.MPEG, BT709
        context.color_primaries, context.color_trc = BT709, BT709
        stream.time_base = TIME_BASE
        return stream

    def write(self, rgb: UInt8Array, seconds: float) -> None:
        """Append one frame: uint8 (H, W, 3), shown from `seconds` of the source on until the next.

        Raises:
            OutputError: the disk is full or the like; what was written before stays readable.
            ConfigError: the frame has another size.
        """
        if self._closed:
            raise OutputError(f"{self.path} is closed: nothing can be written any more")
        if rgb.dtype != np.uint8 or rgb.shape != (*self._size_wh[::-1], 3):
            width, height = self._size_wh
            raise ConfigError(f"uint8 ({height}, {width}, 3) expected for {self.path}, not {rgb.dtype} {rgb.shape}")
        height, width = rgb.shape[:2]
        if height % 2 or width % 2:
            rgb = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = self._reformatter.reformat(
            VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        picture.color_primaries = picture.color_trc = BT709
        self._last_pts = max(self._last_pts + 1, round((seconds - self._start) / TIME_BASE))
        picture.pts, picture.time_base = self._last_pts, TIME_BASE
        self._mux(picture)
        self.frames += 1

    def _mux(self, picture: VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(picture):
                self._put(packet)
            if picture is None:
                self._put(None)
        except _AV_ERRORS as error:
            raise OutputError(
                f"{self.path} cannot be written on after {self.frames} frames: {error}; is the disk full? "
                "What was written before is kept"
            ) from error

    def _put(self, packet: Any) -> None:
        held, self._held = self._held, packet
        if held is None:
            return
        held.duration = self._period if packet is None else packet.pts - held.pts
        self._container.mux_one(held)

    def close(self) -> None:
        """Finish the file; may be called twice.

        Raises:
            OutputError: it could not be finished; what was written before is at `path` and plays.
        """
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
        except _AV_ERRORS as error:
            failure = failure or error
        if not self.frames:
            self._part.unlink(missing_ok=True)
            return
        failure = failure or self._finish()
        if failure is not None:
            with contextlib.suppress(OSError):
                self._part.replace(self.path)
            raise OutputError(f"{self.path} could not be finished: {failure}; what was written plays") from failure

    def _finish(self) -> Exception | None:
        """Copy the fragments into a file with its index in front, with sound if it can be had."""
        whole = self.path.with_name(f".{self.path.name}.whole")
        seconds = float((self._last_pts + self._period) * TIME_BASE)
        ways = ("copy", "encode", "none") if self._audio_from is not None else ("none",)
        failure: Exception | None = None
        for way in ways:
            try:
                _assemble(self._part, whole, _Sound(self._audio_from, self._start, seconds, way))
                whole.replace(self.path)
                self._part.unlink()
            except _AV_ERRORS as error:
                failure = error
                whole.unlink(missing_ok=True)
                continue
            if failure is not None and way == "none":
                log.warning("%s: written without the sound of %s: %s", self.path, self._audio_from, failure)
            return None
        return failure


class _Sound:
    """The sound of one source between two times, as packets for an mp4.

    `way` is "copy" (packets as they are, if mp4 carries their codec), "encode" (to AAC) or "none".
    """

    def __init__(self, source: Path | str | None, start: float, seconds: float, way: str) -> None:
        self._start, self._seconds, self._way = start, seconds, way
        self._input: InputContainer | None = None
        self._in: Any = None
        self._out: Any = None
        if source is None or way == "none":
            return
        self._input = av.open(str(source), "r")
        if not self._input.streams.audio:
            return
        self._in = self._input.streams.audio[0]
        # Times of the source count from its first picture, as the readers do it.
        video = next(iter(self._input.streams.video), None)
        if video is not None and video.start_time is not None and video.time_base:
            self._start += float(video.start_time * video.time_base)

    def join(self, output: OutputContainer) -> None:
        """Add the track to `output`; ValueError where copying cannot be."""
        if self._in is None:
            return
        if self._way == "encode":
            self._out = output.add_stream("aac", rate=self._in.rate)
        elif self._in.codec_context.name not in COPIED:
            raise ValueError(f"mp4 cannot carry {self._in.codec_context.name} sound")
        else:
            self._out = output.add_stream_from_template(self._in)

    def packets(self) -> Iterator[Any]:
        """Its packets in order, their times counted from the start of the written file."""
        if self._in is None or self._input is None:
            return
        if self._start > 1:  # a second early: formats seek coarsely
            with contextlib.suppress(av.error.FFmpegError):
                self._input.seek(int((self._start - 1) * av.time_base))
        yield from self._encoded(self._input) if self._way == "encode" else self._copied(self._input)

    def _copied(self, source: InputContainer) -> Iterator[Any]:
        for packet in source.demux(self._in):
            if packet.pts is None or packet.size == 0:
                continue
            place = self._place(packet)
            if place is None:
                return
            if place >= 0:
                packet.pts = packet.dts = round(place / packet.time_base)
                packet.stream = self._out
                yield packet

    def _encoded(self, source: InputContainer) -> Iterator[Any]:
        context = self._out.codec_context
        resampler = AudioResampler(format=context.format, layout=context.layout, rate=context.rate)
        base = Fraction(1, context.rate)
        samples = 0
        for frame in self._kept(source):
            for piece in resampler.resample(frame):
                if samples == 0 and frame is not None:
                    samples = max(0, round((self._place(frame) or 0.0) / base))
                piece.pts, piece.time_base = samples, base
                samples += piece.samples
                yield from self._out.encode(piece)
        yield from self._out.encode(None)

    def _kept(self, source: InputContainer) -> Iterator[Any]:
        for frame in source.decode(self._in):
            if frame.pts is None:
                continue
            place = self._place(frame)
            if place is None:
                break
            if place >= 0:
                yield frame
        yield None  # what the resampler holds back

    def _place(self, piece: Any) -> float | None:
        """Seconds from the start of the written file; below 0 before it, None after its end."""
        place = float(piece.pts * piece.time_base) - self._start
        # A piece that begins less than a millisecond early is rounding's, not another's.
        return None if place >= self._seconds else max(place, 0.0) if place > -0.001 else place

    def close(self) -> None:
        if self._input is not None:
            self._input.close()


def _assemble(part: Path, whole: Path, sound: _Sound) -> None:
    """Copy the picture track of `part` and the sound to `whole`, in order of time."""
    with (
        contextlib.closing(sound),
        av.open(str(part), "r") as source,
        av.open(str(whole), "w", format="mp4", options={"movflags": "+faststart"}) as output,
    ):
        track = source.streams.video[0]
        copied = output.add_stream_from_template(track)
        sound.join(output)

        def pictures() -> Iterator[Any]:
            for packet in source.demux(track):
                if packet.size:
                    packet.stream = copied
                    yield packet

        # Encoded packets may lack a time base of their own until muxed: their stream's is meant.
        for packet in heapq.merge(pictures(), sound.packets(), key=lambda p: p.dts * p.time_base):
            output.mux_one(packet)
