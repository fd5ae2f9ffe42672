"""`grabcut` and `nano`: segmenters that need no download."""

from samvideo.segmenters.base import Segmenter
from samvideo.segmenters.grabcut import GrabCutSegmenter
from samvideo.segmenters.specs import SegmenterFacts, SegmenterOptions, SegmenterSpec


def _build_grabcut(options: SegmenterOptions) -> Segmenter:
    return GrabCutSegmenter()


def _build_nano(options: SegmenterOptions) -> Segmenter:
    from samvideo.nano.runtime import load
    from samvideo.segmenters.nano import NanoSegmenter

    return NanoSegmenter(load(options.weights))


VARIANTS = {
    "grabcut": SegmenterSpec(
        "grabcut",
        _build_grabcut,
        "colours and edges, without weights",
        facts=lambda: SegmenterFacts(parameters="0"),
    ),
    "nano": SegmenterSpec(
        "nano",
        _build_nano,
        "the small network of the bundled tracker",
        takes_weights=True,
        facts=lambda: SegmenterFacts("crops", "0.5 M"),
    ),
}
