"""Video object segmentation and tracking with the efficient SAM 2 family."""

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samvideo import notebook as notebook
    from samvideo.checkpoints import load as load
    from samvideo.errors import SamVideoError as SamVideoError
    from samvideo.exports.detections import to_supervision as to_supervision
    from samvideo.io.source import open_video as open_video
    from samvideo.models import build as build
    from samvideo.segmenters.factory import load_segmenter as load_segmenter
    from samvideo.trackers.loop import track as track
    from samvideo.types import Box as Box
    from samvideo.types import Frame as Frame
    from samvideo.types import FrameResult as FrameResult
    from samvideo.types import Mask as Mask
    from samvideo.types import Points as Points
    from samvideo.types import VideoInfo as VideoInfo

__version__ = "0.1.0"

# In a checkout, some packages lie beside this folder. Python that is started there takes samvideo from it, even if
# it is installed elsewhere, and finds those packages by this.
if (Path(__file__).parent.parent / "pyproject.toml").is_file():
    __path__.append(str(Path(__file__).parent.parent))

# Read by OpenCV when it is imported: a damaged picture of a few bytes may claim gigabytes. Our own error messages
# replace those of its decoders.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**27))
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

# Imported at first use, so that `import samvideo` is fast.
_HOME = {
    "Box": "samvideo.types",
    "Frame": "samvideo.types",
    "FrameResult": "samvideo.types",
    "Mask": "samvideo.types",
    "Points": "samvideo.types",
    "SamVideoError": "samvideo.errors",
    "VideoInfo": "samvideo.types",
    "build": "samvideo.models",
    "load": "samvideo.checkpoints",
    "load_segmenter": "samvideo.segmenters.factory",
    "open_video": "samvideo.io.source",
    "to_supervision": "samvideo.exports.detections",
    "track": "samvideo.trackers.loop",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name == "notebook":
        return import_module("samvideo.notebook")
    if name not in _HOME:
        raise AttributeError(f"module 'samvideo' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
