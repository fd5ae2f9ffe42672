"""`flow`: optical flow, colours and an online classifier; no network."""

from samvideo.segmenters.base import Segmenter
from samvideo.trackers.base import Tracker
from samvideo.trackers.specs import ModelFacts, TrackerOptions, TrackerSpec


def _build(options: TrackerOptions) -> Tracker:
    from samvideo.trackers.flow import FlowTracker

    return FlowTracker()


def _build_segmenter(options: TrackerOptions) -> Segmenter:
    from samvideo.segmenters.grabcut import GrabCutSegmenter

    return GrabCutSegmenter()


VARIANTS = {
    "flow": TrackerSpec(
        "flow",
        _build,
        _build_segmenter,
        "tracks by optical flow and colours, without weights",
        facts=lambda: ModelFacts("evidence", parameters="0", licence="Apache-2.0"),
    )
}
