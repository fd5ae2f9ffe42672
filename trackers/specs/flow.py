"""`flow`: optical flow, colours and an online classifier; no network."""

from samvideo.trackers.base import Tracker
from samvideo.trackers.specs import ModelFacts, TrackerOptions, TrackerSpec


def _build(options: TrackerOptions) -> Tracker:
    from samvideo.trackers.flow import FlowTracker

    return FlowTracker()


VARIANTS = {
    "flow": TrackerSpec(
        "flow",
        _build,
        "tracks by optical flow and colours, without weights",
        facts=lambda: ModelFacts("evidence", parameters="0", licence="Apache-2.0"),
    )
}
