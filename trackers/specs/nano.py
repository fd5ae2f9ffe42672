"""`nano`: the bundled model, which needs no download."""

from functools import partial

from samvideo.trackers.specs import ModelFacts, TrackerSpec
from samvideo.trackers.specs.sam import build

VARIANTS = {
    "nano": TrackerSpec(
        "nano",
        partial(build, "nano"),
        "a small network with bundled weights",
        devices=("cpu", "cuda", "mps"),
        options=frozenset({"weights", "memory", "policy", "compiled"}),
        facts=lambda: ModelFacts("efficientnet-lite0", "affinity-ridge", "fifo", "1.6 M", licence="Apache-2.0"),
        segmenter="nano",
    )
}
