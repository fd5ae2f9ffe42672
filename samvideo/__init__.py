"""Video object segmentation and tracking with the efficient SAM 2 family."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samvideo.checkpoints import load
    from samvideo.exports.detections import to_supervision
    from samvideo.io.source import open_video
    from samvideo.trackers.loop import track
    from samvideo.types import Box, Frame, FrameResult, Mask, Points, VideoInfo

__version__ = "0.1.0"

# Names are fetched at first use, so that `import samvideo` costs nothing.
_HOME = {
    "Box": "samvideo.types",
    "Frame": "samvideo.types",
    "FrameResult": "samvideo.types",
    "Mask": "samvideo.types",
    "Points": "samvideo.types",
    "VideoInfo": "samvideo.types",
    "load": "samvideo.checkpoints",
    "open_video": "samvideo.io.source",
    "to_supervision": "samvideo.exports.detections",
    "track": "samvideo.trackers.loop",
}

__all__ = [
    "Box",
    "Frame",
    "FrameResult",
    "Mask",
    "Points",
    "VideoInfo",
    "load",
    "open_video",
    "to_supervision",
    "track",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'samvideo' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
