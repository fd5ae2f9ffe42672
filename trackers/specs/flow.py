"""`flow`: masks warped by optical flow; no network."""

from samvideo.trackers.base import Tracker
from samvideo.trackers.specs import ModelFacts, TrackerOptions, TrackerSpec


def _build(options: TrackerOptions) -> Tracker:
    from samvideo.trackers.flow import FlowTracker

    return FlowTracker()


VARIANTS = {
    "flow": TrackerSpec(
        "flow",
        _build,
        "warps masks by optical flow, without weights",
        facts=lambda: ModelFacts(parameters="0", licence="Apache-2.0"),
    )
}
