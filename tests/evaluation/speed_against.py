"""Compare the speed of the bundled model with that of another version of this package.

    git worktree add TREE COMMIT; pip install --no-deps --target BEFORE TREE; pip install --no-deps --target NOW .
    python tests/evaluation/speed_against.py BEFORE NOW CLIP -p X1,Y1,X2,Y2

One process of each version tracks the clip, a few frames in turn, so that other load counts for both;
then each runs `samvideo track`. Medians over frames and rounds count.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

PART = 5
"""Frames that a version tracks before it is the other's turn."""
WORKER = """
import itertools, json, sys, time
import torch
torch.set_num_threads(int(sys.argv[3]))
begin = time.perf_counter()
from samvideo import Box, open_video
from samvideo.trackers.factory import create_tracker
tracker = create_tracker("nano", device="cpu")
print(time.perf_counter() - begin, flush=True)
boxes = [Box(tuple(box)) for box in json.loads(sys.argv[2])]
with open_video(sys.argv[1]) as video:
    frames = list(itertools.islice(video, int(sys.argv[4])))
results = []
for number, frame in enumerate(frames):
    if number % int(sys.argv[5]) == 0:
        sys.stdin.readline()
    begin = time.perf_counter()
    tracker.step(frame, boxes if number == 0 else [], upcoming=frames[min(number + 1, len(frames) - 1)])
    print(time.perf_counter() - begin, flush=True)
"""
Boxes = list[list[float]]


class Version:
    """One version of the package.

    Args:
        folder: where it is installed.
        threads: of torch and OpenCV.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        self.threads = threads
        self.environment = {**os.environ, "PYTHONPATH": str(folder.resolve()), "OMP_NUM_THREADS": str(threads)}

    def worker(self, clip: Path, boxes: Boxes, frames: int) -> "subprocess.Popen[str]":
        """A process that tracks the clip, `PART` frames for each line that it gets."""
        arguments = [str(clip.resolve()), json.dumps(boxes), str(self.threads), str(frames), str(PART)]
        return subprocess.Popen(
            [sys.executable, "-c", WORKER, *arguments],
            env=self.environment,
            cwd=tempfile.gettempdir(),  # the working tree must not hide the installed package
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def command(self, clip: Path, boxes: Boxes) -> tuple[float, float]:
        """Seconds and peak memory in GB of `samvideo track`."""
        prompts = [f"-pbox={','.join(map(str, box))}" for box in boxes]
        with tempfile.TemporaryDirectory() as out:
            command = ["track", str(clip.resolve()), *prompts, "--model", "nano", "--device", "cpu"]
            begin = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-m", "samvideo", *command, "-o", f"{out}/run", "-q"],
                env=self.environment,
                cwd=out,
            )
            _, status, usage = os.wait4(process.pid, 0)
            if status:
                raise RuntimeError(f"samvideo track failed in {self.environment['PYTHONPATH']}")
            return time.perf_counter() - begin, usage.ru_maxrss / 2**20


def track_in_turn(versions: list[Version], clip: Path, boxes: Boxes, frames: int) -> list[dict[str, float]]:
    """Median milliseconds a frame and seconds of loading, of each version."""
    workers = [version.worker(clip, boxes, frames) for version in versions]
    loads = [_read(worker) for worker in workers]
    seconds: list[list[float]] = [[] for _ in workers]
    for start in range(0, frames, PART):
        for worker, spent in zip(workers, seconds, strict=True):
            assert worker.stdin is not None
            worker.stdin.write("\n")
            worker.stdin.flush()
            spent += [_read(worker) for _ in range(min(PART, frames - start))]
    for worker in workers:
        worker.communicate()
    return [
        {"load, s": load, "a frame, ms": 1000 * median(spent[PART:])}
        for load, spent in zip(loads, seconds, strict=True)
    ]


def _read(worker: "subprocess.Popen[str]") -> float:
    assert worker.stdout is not None
    return float(worker.stdout.readline())


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("now", type=Path)
    parser.add_argument("clip", type=Path)
    parser.add_argument("-p", "--box", action="append", required=True, help="X1,Y1,X2,Y2, of each object")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    versions = [Version(folder, options.threads) for folder in (options.before, options.now)]
    boxes = [[float(value) for value in box.split(",")] for box in options.box]
    rounds: list[list[dict[str, Any]]] = []
    for _ in range(options.rounds):
        measured = track_in_turn(versions, options.clip, boxes, options.frames)
        for version, found in zip(versions, measured, strict=True):
            found["command, s"], found["peak memory, GB"] = version.command(options.clip, boxes)
        rounds.append(measured)
    print(f"{len(boxes)} objects, {options.threads} threads, medians of {options.rounds} rounds")
    print(f"{'':18}{'before':>10}{'now':>10}{'ratio':>10}")
    for key in rounds[0][0]:
        before, now = ([one[which][key] for one in rounds] for which in (0, 1))
        ratio = median(a / b for a, b in zip(before, now, strict=True))
        print(f"{key:18}{median(before):10.3f}{median(now):10.3f}{ratio:10.2f}")


if __name__ == "__main__":
    main()
