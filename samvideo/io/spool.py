"""Temporary storage of results on disk: a few hundred bytes per mask, however long the video is."""

import tempfile
import zlib

import numpy as np

from samvideo.io.base import Closing
from samvideo.types import Frame, FrameResult


class Spool(Closing):
    """Keeps `FrameResult`s in a temporary file, by frame and object; logits are not kept."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._places: dict[int, dict[int, tuple[int, int, float, bool]]] = {}
        self._labels: dict[int, str] = {}

    def add(self, result: FrameResult) -> None:
        """Store a result; it replaces an earlier one of the same frame and object."""
        self._labels |= result.labels
        rows = self._places.setdefault(result.index, {})
        for object_id, mask, score, present in result.rows():
            packed = zlib.compress(np.packbits(mask).tobytes(), 1)
            start = self._file.seek(0, 2)
            self._file.write(packed)
            rows[object_id] = start, len(packed), score, present

    def take(self, frame: Frame) -> FrameResult:
        """Return everything stored for a frame (K = 0 if nothing is); `masks` have the frame's size."""
        width, height = frame.size_wh
        rows = sorted(self._places.get(frame.index, {}).items())
        masks = np.zeros((len(rows), height, width), bool)
        for k, (_, (start, length, _, _)) in enumerate(rows):
            self._file.seek(start)
            bits = np.frombuffer(zlib.decompress(self._file.read(length)), np.uint8)
            masks[k] = np.unpackbits(bits, count=width * height).reshape(height, width)
        return FrameResult(
            frame.index,
            frame.seconds,
            tuple(object_id for object_id, _ in rows),
            masks,
            np.array([score for _, (_, _, score, _) in rows], np.float32),
            np.array([present for _, (_, _, _, present) in rows], bool),
            labels=dict(self._labels),
        )

    def close(self) -> None:
        """See `Closing.close`."""
        self._file.close()
