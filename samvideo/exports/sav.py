"""A masklet file of SA-V (Ravi et al., arXiv 2408.00714): RLE of every fourth frame."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samvideo.errors import ConfigError
from samvideo.exports.base import Format, Job
from samvideo.io.files import stream_json
from samvideo.io.masks import encode_rle

EVERY = 4  # videos have 24 frames per second, masks 6
MOST = 1_000_000  # frames of a video, since untracked ones are written too


def _write(job: Job) -> None:
    width, height = job.tracks.info.size_wh
    ids, count = job.object_ids, job.length
    if count > MOST:
        raise ConfigError(f"the video has {count} frames: a SA-V file of at most {MOST} frames expected")
    areas = _areas(job)
    seen = areas > 0
    sizes = [float(column[column > 0].mean()) if column.any() else 0.0 for column in areas.T]
    head = {
        "video_id": job.title,
        "video_duration": float(count / job.tracks.info.rate),
        "video_frame_count": float(count),
        "video_height": float(height),
        "video_width": float(width),
        "video_resolution": float(height * width),
        "video_environment": None,
        "video_split": None,
        "masklet_id": list(range(len(ids))),
        "masklet_object": list(ids),
        "masklet_size_rel": [size / (height * width) for size in sizes],
        "masklet_size_abs": sizes,
        "masklet_size_bucket": [_bucket(size) for size in sizes],
        "masklet_visibility_changes": [int(np.abs(np.diff(column.astype(int))).sum()) for column in seen.T],
        "masklet_first_appeared_frame": [
            float(EVERY * int(column.argmax())) if column.any() else None for column in seen.T
        ],
        "masklet_frame_count": [len(areas)] * len(ids),
        "masklet_edited_frame_count": [0] * len(ids),
        "masklet_type": ["auto"] * len(ids),
        "masklet_stability_score": [None] * len(ids),
        "masklet_num": len(ids),
    }
    stream_json(job.out, head, {"masklet": _masklets(job)})


def _areas(job: Job) -> NDArray[np.int64]:
    """Return the area in pixels of each object on each annotated frame, (frames, objects), as in the masklets."""
    annotated = [frame for frame in job.tracks if frame.index % EVERY == 0]
    if not annotated:
        raise ConfigError(
            f"SA-V has masks on every {EVERY}th frame, and the run in {job.tracks.path.parent} has none of them: "
            f"track from a frame that {EVERY} divides, with a stride that does too"
        )
    areas = np.zeros((annotated[-1].index // EVERY + 1, len(job.object_ids)), np.int64)
    for frame in annotated:
        seen = frame.visible()
        areas[frame.index // EVERY] = [seen[i].area if i in seen else 0 for i in job.object_ids]
    return areas


def _bucket(area: float) -> str:
    # Names as published; the bounds are those of COCO, which match the published files.
    return "small" if area < 32**2 else "medium" if area < 96**2 else "large"


def _masklets(job: Job) -> Iterator[list[dict[str, Any]]]:
    """Yield a list per annotated frame; frames that were not tracked get empty masks, since position is index."""
    empty = encode_rle(np.zeros(job.tracks.info.size_wh[::-1], bool))
    due = 0
    for frame in job.tracks:
        if frame.index % EVERY:
            continue
        for _ in range(due, frame.index, EVERY):
            yield [empty] * len(job.object_ids)
        entries = frame.visible()
        yield [entries[i].rle if i in entries else empty for i in job.object_ids]
        due = frame.index + EVERY


VARIANTS = {"sav": Format(_write, ".json", f"a masklet file of SA-V, every {EVERY}th frame")}
