"""Write your own loop: add a second object on frame 20 and correct the first one on frame 40.

`python demos/add_and_correct.py VIDEO` writes one overlay image per second of video into the folder `steps/`.
"""

import sys
from pathlib import Path

import cv2

from samvideo import Box, Points, open_video
from samvideo.render import overlay
from samvideo.trackers.factory import create_tracker


def main(path: str) -> None:
    folder = Path("steps")
    folder.mkdir(exist_ok=True)
    tracker = create_tracker("nano")
    with open_video(path) as video:
        width, height = video.info.size_wh
        prompts = {
            0: [Box((0.30 * width, 0.30 * height, 0.55 * width, 0.70 * height))],
            20: [Box((0.60 * width, 0.30 * height, 0.80 * width, 0.70 * height))],  # no id: a new object
            40: [Points([(0.45 * width, 0.5 * height)], [1], object_id=1)],  # known id: a correction
        }
        for frame in video:
            result = tracker.step(frame, prompts.get(frame.index, ()))
            if frame.index % round(video.info.rate) == 0:
                image = overlay(frame.rgb, result)
                cv2.imwrite(str(folder / f"{frame.index:05d}.jpg"), image[..., ::-1])
                print(result)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
