"""`nano`: the bundled tracker, which fuses the cues of `flow` by two small networks."""

from samvideo.trackers.base import Tracker
from samvideo.trackers.specs import ModelFacts, TrackerOptions, TrackerSpec


def _build(options: TrackerOptions) -> Tracker:
    from samvideo.trackers.nano import NanoTracker

    return NanoTracker(options.weights)


VARIANTS = {
    "nano": TrackerSpec(
        "nano",
        _build,
        "two small networks on the CPU, with bundled weights",
        options=frozenset({"weights"}),
        facts=lambda: ModelFacts("evidence", "crops", parameters="0.7 M", licence="Apache-2.0"),
        segmenter="nano",
    )
}
