"""A task of Label Studio with boxes as predictions, for its VideoRectangle tag; it does not support video masks.

Import the file into a project whose labelling interface has
`<Video name="video" value="$video"/> <VideoRectangle name="box" toName="video"/>` and
`<Labels name="labels" toName="video">` with the classes; `data.video` is the name of the video: replace it by its
URL. Frames count from 1, positions are percent of the frame.
"""

import json
from typing import Any

from samvideo.exports.base import Format, Job
from samvideo.io.tracks import ObjectRecord


def _write(job: Job) -> None:
    results = [_result(job, object_id) for object_id in job.object_ids]
    task = {
        "data": {"video": job.title},
        "predictions": [{"model_version": "samvideo", "result": [result for result in results if result]}],
    }
    job.out.write_text(json.dumps([task]) + "\n", encoding="utf-8")


def _result(job: Job, object_id: int) -> dict[str, Any]:
    """Return one object with a keyframe per frame, disabled where it leaves."""
    rate = float(job.tracks.info.rate)
    sequence: list[dict[str, Any]] = []
    last: dict[str, Any] | None = None
    for frame, entry in job.of(object_id):
        if entry is not None:
            last = _keyframe(job, entry) | {"frame": frame.index + 1, "time": frame.seconds, "enabled": True}
            sequence.append(last)
        elif last is not None and last["enabled"]:
            last = last | {"frame": frame.index + 1, "time": frame.seconds, "enabled": False}
            sequence.append(last)
    if last is not None and last["enabled"] and frame.index + 1 < job.length:  # else it stays until the end
        sequence.append(last | {"frame": frame.index + 2, "time": frame.seconds + 1 / rate, "enabled": False})
    labels = [job.label(object_id)]
    return {
        "id": f"object-{object_id}",
        "type": "videorectangle",
        "from_name": "box",
        "to_name": "video",
        "origin": "prediction",
        "value": {"framesCount": job.length, "duration": job.length / rate, "sequence": sequence, "labels": labels},
    }


def _keyframe(job: Job, entry: ObjectRecord) -> dict[str, Any]:
    wholes = 2 * job.tracks.info.size_wh
    percent = [100 * part / whole for part, whole in zip(entry.bbox_xywh, wholes, strict=True)]
    return dict(zip(("x", "y", "width", "height", "rotation"), [*percent, 0], strict=True))


VARIANTS = {"label-studio": Format(_write, ".json", "a Label Studio task, boxes per frame as predictions")}
