"""NumPy arrays: a folder of .npy files that `numpy.load(path, mmap_mode="r")` opens without reading them."""

import numpy as np

from samvideo.exports.base import Format, Job


def _write(job: Job) -> None:
    """Write `masks` bool (T, K, H, W), `ids` (K,), `frames`, `seconds` (T,), `scores`, `present` (T, K)."""
    job.out.mkdir(parents=True, exist_ok=True)
    ids, count = job.object_ids, len(job.indices)
    width, height = job.tracks.info.size_wh
    shape = (count, len(ids), height, width)
    masks = np.lib.format.open_memmap(job.out / "masks.npy", "w+", bool, shape) if 0 not in shape else None
    seconds, scores = np.zeros(count), np.zeros((count, len(ids)), np.float32)
    present = np.zeros((count, len(ids)), bool)
    for position, frame in enumerate(job.tracks):
        seconds[position] = frame.seconds
        result = frame.result((width, height))
        for row, object_id in enumerate(result.object_ids):
            column = ids.index(object_id)
            scores[position, column], present[position, column] = result.scores[row], result.present[row]
            if masks is not None:
                masks[position, column] = result.masks[row]
    if masks is None:
        np.save(job.out / "masks.npy", np.zeros(shape, bool))
    else:
        masks.flush()
    tables = {"ids": ids, "frames": job.indices, "seconds": seconds, "scores": scores, "present": present}
    for name, values in tables.items():
        np.save(job.out / f"{name}.npy", np.asarray(values))


VARIANTS = {"numpy": Format(_write, "", "a folder of .npy arrays, masks (frames, objects, height, width)")}
