"""What tracking found, kept while the page is open: masks on disk, one short row a frame and object in memory.

Threads: the tracking thread writes, any may read; one lock guards the file and the rows.
"""

import threading
from collections.abc import Container, Iterable
from typing import NamedTuple

import numpy as np

from samvideo.io.base import Closing
from samvideo.io.spool import Spool
from samvideo.types import Frame, FrameResult

LOW_SCORE, SCORE_DROP, SLOW_DROP = 0.5, 0.2, 0.12
AREA_JUMP, SLOW_JUMP = 1.8, 2.5  # times larger or smaller
WINDOW = 8  # frames over which the slow ones count
SMALL = 64  # pixels; below that an area jumps for nothing


class Row(NamedTuple):
    """One object on one frame.

    Attributes:
        score, present, area: of the tracker's mask; the area is in pixels.
        suspicion: why a person should look here: "lost", "score", "area", or "".
        calm: frames tracked since a person annotated the object or the last suspicion.
    """

    score: float
    present: bool
    area: int
    suspicion: str = ""
    calm: int = 0


def find_suspicion(row: Row, before: Row | None, earlier: Row | None) -> str:
    """Why a result may be wrong, given the frame tracked just before and the one `WINDOW` frames before."""
    if not row.present:
        return "lost" if before is not None and before.present else ""
    for other, drop, jump in ((before, SCORE_DROP, AREA_JUMP), (earlier, SLOW_DROP, SLOW_JUMP)):
        if other is None or not other.present:
            continue
        if row.score < other.score - drop or row.score < LOW_SCORE <= other.score:
            return "score"
        ratio = row.area / max(1, other.area)
        if max(row.area, other.area) > SMALL and not 1 / jump < ratio < jump:
            return "area"
    return ""


class Results(Closing):
    """Context manager over the results of one video."""

    def __init__(self, size_wh: tuple[int, int]) -> None:
        self._spool = Spool()
        self._lock = threading.Lock()
        self._rows: dict[int, dict[int, Row]] = {}  # by frame, then object
        self._log: list[tuple[int, int]] = []  # (frame, object) as they came, for pages that follow
        # Only the size of a frame is needed to unpack masks; this image takes no memory.
        self._blank = np.broadcast_to(np.zeros(1, np.uint8), (size_wh[1], size_wh[0], 3))

    def put(
        self,
        result: FrameResult,
        step: int,
        *,
        whole: bool,
        only: set[int] | None = None,
        annotated: Container[int] = (),
    ) -> None:
        """Keep a result.

        Args:
            result: of a tracker.
            step: 1 when it came from tracking forward, -1 from tracking backward.
            whole: it replaces everything known about its frame, other objects included.
            only: keep these objects alone.
            annotated: objects that a person annotated on this frame: those are beyond doubt.
        """
        if only is not None:
            result = result.select(only)
        with self._lock:
            self._spool.add(result)
            rows = self._rows.setdefault(result.index, {})
            for gone in [i for i in rows if whole and i not in result.object_ids]:
                del rows[gone]
                self._log.append((result.index, gone))
            before = self._rows.get(result.index - step, {})
            earlier = self._rows.get(result.index - step * WINDOW, {})
            for object_id, mask, score, present in zip(
                result.object_ids, result.masks, result.scores, result.present, strict=True
            ):
                row, last = Row(round(float(score), 4), bool(present), int(mask.sum())), before.get(object_id)
                calm = 0 if last is None or object_id in annotated else last.calm + 1
                if calm:
                    why = find_suspicion(row, last, earlier.get(object_id) if calm >= WINDOW else None)
                    row = row._replace(suspicion=why, calm=0 if why else calm)
                rows[object_id] = row
                self._log.append((result.index, object_id))

    def take(self, frame: Frame, ids: set[int]) -> FrameResult:
        """What is known about a frame and these objects; K = 0 where nothing is."""
        with self._lock:
            return self._spool.take(frame).select(ids & self._rows.get(frame.index, {}).keys())

    def drop(self, frames: Iterable[int]) -> None:
        """Forget what is known about these frames."""
        with self._lock:
            for index in frames:
                self._log.extend((index, object_id) for object_id in self._rows.pop(index, {}))

    def look_up(self, index: int, ids: set[int]) -> FrameResult:
        """`take` for a frame whose image is not at hand; its time is given as 0."""
        return self.take(Frame(index, 0.0, self._blank), ids)

    def frames(self) -> set[int]:
        """The frames that have results."""
        with self._lock:
            return {index for index, rows in self._rows.items() if rows}

    @property
    def revision(self) -> int:
        """How many results were stored or dropped so far."""
        return len(self._log)

    def news(self, since: int) -> tuple[int, list[tuple[int, int, Row | None]]]:
        """The revision, and (frame, object, row) of what changed after `since`; the row is None if it is gone."""
        with self._lock:
            fresh = dict.fromkeys(self._log[since:])
            return len(self._log), [(frame, i, self._rows.get(frame, {}).get(i)) for frame, i in fresh]

    def close(self) -> None:
        """Delete the file."""
        with self._lock:
            self._spool.close()
