"""What each path of an object showed since the paths parted, for results that are revised later; no torch.

Counterpart: Mark12Ding/SAM2Long: sam2/sam2_video_predictor.py, which keeps everything until the last frame.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from samvideo.types import BoolArray, Frame, FrameResult


@dataclass(eq=False)
class PastResult:
    """One path's result on one frame, linked to the frame before; paths share what they have in common.

    Attributes:
        index, seconds, size_wh: of the frame.
        packed: the mask, compressed.
        score, present: as in `FrameResult`.
        before: on the frame before; None where that is settled.
    """

    index: int
    seconds: float
    size_wh: tuple[int, int]
    packed: bytes
    score: float
    present: bool
    before: "PastResult | None"

    def result(self, object_id: int) -> FrameResult:
        """The result of one object."""
        width, height = self.size_wh
        bits = np.frombuffer(zlib.decompress(self.packed), np.uint8)
        mask = np.unpackbits(bits, count=width * height).reshape(1, height, width).astype(bool)
        scores, present = np.array([self.score], np.float32), np.array([self.present])
        return FrameResult(self.index, self.seconds, (object_id,), mask, scores, present)


def past_result(
    frame: Frame, mask: BoolArray, score: float, present: bool, before: PastResult | None
) -> PastResult:
    """The newest result of a path; `before` may hold an earlier one of the same frame, which it replaces."""
    if before is not None and before.index == frame.index:
        before = before.before
    packed = zlib.compress(np.packbits(mask).tobytes(), 1)
    return PastResult(frame.index, frame.seconds, frame.size_wh, packed, score, present, before)


def differing(shown: PastResult | None, best: PastResult | None) -> Iterator[PastResult]:
    """Results of the path `best`, newest first, back to where it parted from the one that was shown."""
    while best is not None and best is not shown:
        yield best
        best, shown = best.before, shown and shown.before


def settle(paths: Sequence[PastResult], limit: int) -> None:
    """Forget what can no longer be revised: before all paths parted, and more than `limit` frames ago."""
    nodes = list(dict.fromkeys(paths))
    for _ in range(limit):
        if len(nodes) == 1:
            break
        nodes = list(dict.fromkeys(node.before for node in nodes if node.before is not None))
    for node in nodes:
        node.before = None
