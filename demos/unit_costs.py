"""Processor time of a frame, by step: `python demos/unit_costs.py CLIP --prompt box=X1,Y1,X2,Y2`."""

import argparse
import tempfile
import time
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path

from samvideo import Frame, FrameResult, open_video
from samvideo.outputs import RleTracks
from samvideo.prompt_syntax import parse_prompts
from samvideo.trackers.factory import create_tracker


def main() -> None:
    """Decode, track and write; other load on the machine hardly changes processor times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--prompt", action="append", required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--frames", type=int, default=40)
    options = parser.parse_args()
    seconds = {"decode": 0.0, "track": 0.0, "write": 0.0}
    with ExitStack() as stack:
        video = stack.enter_context(open_video(options.clip))
        begin = time.process_time()
        frames: list[Frame] = list(islice(video, options.frames))
        seconds["decode"] = time.process_time() - begin
        tracker, prompts = create_tracker(options.model), parse_prompts(options.prompt)
        results: list[FrameResult] = [tracker.step(frames[0], prompts)]
        begin = time.process_time()
        results += [tracker.step(frame) for frame in frames[1:]]
        seconds["track"] = (time.process_time() - begin) * len(frames) / (len(frames) - 1)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tracks = stack.enter_context(closing(RleTracks(folder, video.info)))
        begin = time.process_time()
        for frame, result in zip(frames, results, strict=True):
            tracks.write(frame, result)
        seconds["write"] = time.process_time() - begin
        size = (folder / "tracks.jsonl").stat().st_size
    print(f"{options.clip.name}: {video.info.size_wh}, {len(frames)} frames, {len(prompts)} objects")
    for name, total in seconds.items():
        print(f"{name:8}{1000 * total / len(frames):8.2f} ms")
    print(f"{'jsonl':8}{size / len(frames):8.0f} bytes; clip {options.clip.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
