"""What batches are worth to a server: `python demos/serve_batches.py MODEL SESSIONS FRAMES [BATCH]`.

Sessions track an object each of the demo clip, all at once: three times with batches and without, in turns. HTTP is
left out. MODEL is a name, NAME=FILE, or NAME=random for untrained weights.
"""

import asyncio
import re
import sys
import time
from functools import partial
from itertools import islice

import numpy as np

from samvideo.demo import demo_frames
from samvideo.geometry import mask_box
from samvideo.serving.service import Service, sharing
from samvideo.trackers.factory import create_tracker
from samvideo.types import BoolArray, Box, Frame

SIZE, ROUNDS = (320, 180), 3
model, sessions, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
frames_at_once = int(sys.argv[4]) if len(sys.argv) > 4 else sessions
clip = list(islice(demo_frames(48, SIZE), count))
boxes = [Box(box) for mask in clip[0][1] if (box := mask_box(mask))]
shared = sharing(partial(create_tracker, model))


async def follow(service: Service, number: int) -> list[BoolArray]:
    """Track an object in a session; its mask on every frame."""
    session, found = await service.create("me"), []
    for index, (rgb, _) in enumerate(clip):
        prompts = [boxes[number % len(boxes)]] if index == 0 else []
        record = await service.step(session, Frame(index, index / 24, rgb), partial(list, prompts))
        found.append(record.result(SIZE).masks[0])
    return found


async def track(batch: int) -> tuple[float, list[list[BoolArray]]]:
    """Frames per second, and the masks of each session; prints both the speed and the mean size of batches."""
    service = Service({"model": shared}, batch=batch)
    begin = time.perf_counter()
    found = await asyncio.gather(*(follow(service, number) for number in range(sessions)))
    speed = sessions * count / (time.perf_counter() - begin)
    sums = re.findall(r'batch_frames_(sum|count){stage="(\w+)"} (.+)', service.metrics.text().decode())
    values = {(kind, stage): float(value) for kind, stage, value in sums}
    means = {stage: round(values["sum", stage] / values["count", stage], 1) for _, stage, _ in sums}
    print(f"at most {batch} at once: {speed:.2f} frames per second; mean batches: {means or 'none'}", flush=True)
    await service.close()
    return speed, found


ratios, overlaps = [], []
for _ in range(ROUNDS):
    (before, alone), (after, batched) = (asyncio.run(track(batch)) for batch in (1, frames_at_once))
    ratios.append(after / before)
    pairs = [pair for one, other in zip(alone, batched, strict=True) for pair in zip(one, other, strict=True)]
    overlaps += [(a & b).sum() / max(1, (a | b).sum()) if (a | b).any() else 1.0 for a, b in pairs]
print(f"ratios {', '.join(f'{ratio:.2f}' for ratio in ratios)}, median {np.median(ratios):.2f}")
print(f"masks with and without batches: least IoU {min(overlaps):.4f}, equal {np.mean(np.equal(overlaps, 1)):.1%}")
