"""`nano`: the bundled tracker, which fuses the cues of `flow` by two small networks."""

from samvideo.segmenters.base import Segmenter
from samvideo.trackers.base import Tracker
from samvideo.trackers.specs import ModelFacts, TrackerOptions, TrackerSpec


def _build(options: TrackerOptions) -> Tracker:
    from samvideo.trackers.nano import NanoTracker

    return NanoTracker(options.weights)


def _build_segmenter(options: TrackerOptions) -> Segmenter:
    from samvideo.nano.runtime import load
    from samvideo.segmenters.nano import NanoSegmenter

    return NanoSegmenter(load(options.weights))


VARIANTS = {
    "nano": TrackerSpec(
        "nano",
        _build,
        "two small networks on the CPU, with bundled weights",
        options=frozenset({"weights"}),
        facts=lambda: ModelFacts("evidence", "crops", parameters="0.7 M", licence="Apache-2.0"),
        build_segmenter=_build_segmenter,
    )
}
