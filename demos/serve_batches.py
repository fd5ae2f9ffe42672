"""What batches are worth to a server: `python demos/serve_batches.py MODEL SESSIONS FRAMES [BATCH]`.

Sessions track an object each of the demo clip, all at once: five times with batches and without, in turns. HTTP is
left out. Where a machine has other load, processor time is steadier than time. MODEL is a name, NAME=FILE, or
NAME=random for untrained weights.
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

if len(sys.argv) not in (4, 5):
    sys.exit(__doc__)
SIZE, ROUNDS = (320, 180), 5
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


async def track(batch: int) -> tuple[tuple[float, float], list[list[BoolArray]]]:
    """Frames per second and per second of processor time, and the masks of each session."""
    service = Service({"model": shared}, batch=batch)
    begin, begin_cpu = time.perf_counter(), time.process_time()
    found = await asyncio.gather(*(follow(service, number) for number in range(sessions)))
    seconds, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    speeds = sessions * count / seconds, sessions * count / cpu
    sums = re.findall(r'batch_frames_(sum|count){stage="(\w+)"} (.+)', service.metrics.text().decode())
    values = {(kind, stage): float(value) for kind, stage, value in sums}
    means = {stage: round(values["sum", stage] / values["count", stage], 1) for _, stage, _ in sums}
    text = f"{speeds[0]:.2f} frames per second, {speeds[1]:.2f} per second of processor time"
    print(f"at most {batch} at once: {text}; mean batches: {means or 'none'}", flush=True)
    await service.close()
    return speeds, found


ratios, overlaps = [], []
for _ in range(ROUNDS):
    (before, alone), (after, batched) = (asyncio.run(track(batch)) for batch in (1, frames_at_once))
    ratios.append(np.divide(after, before))
    pairs = [pair for one, other in zip(alone, batched, strict=True) for pair in zip(one, other, strict=True)]
    overlaps += [(a & b).sum() / (a | b).sum() if (a | b).any() else 1.0 for a, b in pairs]
time_ratio, cpu_ratio = np.median(ratios, 0)
print(f"with batches, in relation to without, medians: {time_ratio:.2f}, by processor time {cpu_ratio:.2f}")
print(f"masks with and without batches: least IoU {min(overlaps):.4f}, equal {np.mean(np.equal(overlaps, 1)):.1%}")
