"""Small clips made on the spot; each picture carries its own number in big black and white blocks."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame

BITS = 8
COLOURS = np.array([(200, 60, 60), (60, 180, 60), (70, 70, 210), (190, 180, 50)], np.uint8)


def numbered(index: int, size_wh: tuple[int, int] = (128, 96)) -> np.ndarray:
    """uint8 (H, W, 3): the top half holds `index` in eight blocks, the bottom half colours that move with it."""
    width, height = size_wh
    rgb = np.zeros((height, width, 3), np.uint8)
    bits = (index >> np.arange(BITS - 1, -1, -1)) & 1
    columns = np.minimum(np.arange(width) * BITS // width, BITS - 1)
    rgb[: height // 2] = (bits[columns] * 255)[None, :, None]
    rgb[height // 2 :] = COLOURS[((np.arange(width) + 3 * index) * 4 // width) % 4]
    return rgb


def number_of(rgb: np.ndarray) -> int:
    """The index that `numbered` painted, after any lossy coding."""
    height, width = rgb.shape[:2]
    centres = ((np.arange(BITS) + 0.5) * width / BITS).astype(int)
    bits = rgb[height // 8 : height // 3, centres].mean((0, 2)) > 127
    return int(bits @ (1 << np.arange(BITS - 1, -1, -1)))


def write_clip(
    path: Path,
    frames: Sequence[np.ndarray] | int = 24,
    *,
    size_wh: tuple[int, int] = (128, 96),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate: int = 25,
    times: Sequence[float] | None = None,
    options: dict[str, str] | None = None,
    mux: dict[str, str] | None = None,
    format: str | None = None,
    rotate: tuple[float, bool, bool] | None = None,
    audio: str | None = None,
    colour: tuple[int, int, int] | None = None,
    **context: Any,
) -> Path:
    """Write a clip with PyAV: B-frames by default.

    `times` are seconds per frame, `mux` the container's options, `rotate` (degrees counter-clockwise, mirror x,
    mirror y) goes into the display matrix, `audio` names a codec for a tone, `colour` is (primaries, transfer,
    matrix), `context` any field of the encoder.
    """
    pictures = [numbered(k, size_wh) for k in range(frames)] if isinstance(frames, int) else frames
    base = Fraction(1, 12800)
    with av.open(str(path), "w", format=format, options=mux or {}) as container:
        stream: Any = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if times is not None:
            stream.codec_context.time_base = base
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        if colour is not None:
            names = "color_primaries", "color_trc", "colorspace"
            for name, value in zip(names, colour, strict=True):
                setattr(stream.codec_context, name, value)
        if rotate is not None:
            stream.set_display_rotation(rotate[0], hflip=rotate[1], vflip=rotate[2])
        sound: Any = None if audio is None else container.add_stream(audio, rate=48000)
        container.start_encoding()
        if sound is not None:
            _tone(container, sound, len(pictures) / rate)
        for number, rgb in enumerate(pictures):
            picture = VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=pix_fmt)
            picture.pts, picture.time_base = number, Fraction(1, rate)
            if times is not None:
                picture.pts, picture.time_base = round(times[number] / base), base
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def _tone(container: Any, stream: Any, seconds: float) -> None:
    """A tone that is silent in its first half, so that a test can hear where a cut begins."""
    context = stream.codec_context
    size, rate = context.frame_size or 1024, 48000
    for start in range(0, int(seconds * rate), size):
        samples = np.arange(start, start + size)
        wave = 0.5 * np.sin(2 * np.pi * 440 * samples / rate) * (samples >= seconds * rate / 2)
        channels = context.layout.nb_channels
        data = np.tile(wave, (channels, 1)) if context.format.is_planar else np.repeat(wave, channels)[None]
        data = (data * 32767).astype(np.int16) if "s16" in context.format.name else data.astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(data), context.format.name, context.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def cut(path: Path, share: float) -> Path:
    """The first part of a file, as a download that broke off leaves it."""
    whole = path.read_bytes()
    short = path.with_name("cut_" + path.name)
    short.write_bytes(whole[: int(len(whole) * share)])
    return short


def damage(path: Path, start: float, end: float, seed: int = 0) -> Path:
    """A file with noise between two shares of its length."""
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    span = slice(int(len(data) * start), int(len(data) * end))
    data[span] = np.random.default_rng(seed).integers(0, 256, len(data[span]))
    broken = path.with_name("broken_" + path.name)
    broken.write_bytes(data.tobytes())
    return broken


def write_images(folder: Path, names: list[str], size_wh: tuple[int, int] = (128, 96)) -> Path:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        cv2.imwrite(str(folder / name), cv2.cvtColor(numbered(number, size_wh), cv2.COLOR_RGB2BGR))
    return folder
