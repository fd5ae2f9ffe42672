"""NumPy arrays: a folder of .npy files that `numpy.load(path, mmap_mode="r")` opens without reading them."""

import numpy as np

from samvideo.exports.base import Format, Job


def _write(job: Job) -> None:
    """Write `masks` bool (T, K, H, W), `ids` (K,), `frames`, `seconds` (T,), `scores`, `present` (T, K).

    If an object has a label there are `labels` too, text (K,).
    """
    job.out.mkdir(parents=True, exist_ok=True)
    ids, count = job.object_ids, len(job.indices)
    width, height = job.tracks.info.size_wh
    shape = (count, len(ids), height, width)
    empty = 0 in shape  # which cannot be mapped
    masks = np.zeros(shape, bool) if empty else np.lib.format.open_memmap(job.out / "masks.npy", "w+", bool, shape)
    seconds, scores = np.zeros(count), np.zeros((count, len(ids)), np.float32)
    present = np.zeros((count, len(ids)), bool)
    for position, frame in enumerate(job.tracks):
        seconds[position] = frame.seconds
        for object_id, mask, score, seen in frame.result((width, height)).rows():
            cell = position, ids.index(object_id)
            masks[cell], scores[cell], present[cell] = mask, score, seen
    tables = {"ids": ids, "frames": job.indices, "seconds": seconds, "scores": scores, "present": present}
    tables |= {"masks": masks} if empty else {}
    tables |= {"labels": [job.label(object_id) for object_id in ids]} if job.labels else {}
    for name, values in tables.items():
        np.save(job.out / f"{name}.npy", np.asarray(values))


VARIANTS = {"numpy": Format(_write, "", "a folder of .npy arrays, masks (frames, objects, height, width)")}
