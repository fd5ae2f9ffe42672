"""`grabcut` and `nano`: segmenters that need no download."""

from functools import partial

from samvideo.segmenters.base import Segmenter
from samvideo.segmenters.grabcut import GrabCutSegmenter
from samvideo.segmenters.specs import ModelFacts, SegmenterOptions, SegmenterSpec
from samvideo.segmenters.specs.sam import DEVICES, build


def _build_grabcut(options: SegmenterOptions) -> Segmenter:
    return GrabCutSegmenter()


VARIANTS = {
    "grabcut": SegmenterSpec(
        "grabcut",
        _build_grabcut,
        "colours and edges, without weights",
        facts=lambda: ModelFacts(parameters="0", licence="Apache-2.0"),
    ),
    "nano": SegmenterSpec(
        "nano",
        partial(build, "nano"),
        "the bundled model without its memory",
        takes_weights=True,
        devices=DEVICES,
        facts=lambda: ModelFacts("efficientnet-lite0", parameters="1.6 M", licence="Apache-2.0"),
    ),
}
