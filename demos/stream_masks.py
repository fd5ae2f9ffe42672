"""Track one object and print its position on every frame: `python demos/stream_masks.py VIDEO X1,Y1,X2,Y2`."""

import sys

from samvideo import Box, track
from samvideo.geometry import mask_centroid


def main(video: str, box: str) -> None:
    x1, y1, x2, y2 = (float(value) for value in box.split(","))
    for result in track(video, [Box((x1, y1, x2, y2))]):
        place = mask_centroid(result.mask(1))
        state = f"at ({place[0]:.0f}, {place[1]:.0f})" if place else "not in view"
        print(f"{result.seconds:8.3f} s  {state}  score {result.scores[0]:.2f}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
