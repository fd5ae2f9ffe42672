"""Results on disk until they are wanted: a few hundred bytes a mask, whatever the length of the video."""

import tempfile
import zlib
from types import TracebackType

import numpy as np

from samvideo.types import Frame, FrameResult


class Spool:
    """Context manager that keeps `FrameResult`s in a temporary file, by frame and object; logits are not kept."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._places: dict[int, dict[int, tuple[int, int, float, bool]]] = {}

    def add(self, result: FrameResult) -> None:
        """Keep a result; one of the same frame and object replaces the earlier one."""
        rows = self._places.setdefault(result.index, {})
        for object_id, mask, score, present in zip(
            result.object_ids, result.masks, result.scores, result.present, strict=True
        ):
            packed = zlib.compress(np.packbits(mask).tobytes(), 1)
            start = self._file.seek(0, 2)
            self._file.write(packed)
            rows[object_id] = start, len(packed), float(score), bool(present)

    def take(self, frame: Frame) -> FrameResult:
        """All that is known of a frame, K = 0 where nothing is; `masks` have the frame's size."""
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
        )

    def __enter__(self) -> "Spool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
