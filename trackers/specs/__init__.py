"""What is known of each tracker before it is imported: one file per family, found by listing this folder."""

from dataclasses import dataclass

from samvideo.registry import Registry
from samvideo.segmenters.specs import ModelFacts as ModelFacts
from samvideo.segmenters.specs import ModelOptions, SelectableModel
from samvideo.trackers.base import Tracker


@dataclass(frozen=True, kw_only=True)
class TrackerOptions(ModelOptions):
    """The options of a tracker.

    Attributes:
        policy: name of another memory policy than the model's own.
        compiled: compile the network, see `samvideo.compiled`.
    """

    policy: str | None = None
    compiled: bool = False


@dataclass(frozen=True)
class TrackerSpec(SelectableModel[TrackerOptions, Tracker]):
    """One tracker.

    Attributes:
        options: which of `weights`, `memory`, `policy` and `compiled` it takes.
        segmenter: name of the segmenter that previews its first masks, with the same options.
    """

    options: frozenset[str] = frozenset()
    segmenter: str = "grabcut"


TRACKERS = Registry("model", "samvideo.trackers.specs", "samvideo.trackers", TrackerSpec)
