"""The tracker that needs no weights: optical flow, colours, motion and a classifier learned while it watches."""

from dataclasses import dataclass, field

from samvideo.cues.target import Target, TargetConfig
from samvideo.segmenters.grabcut import GrabCutSegmenter
from samvideo.trackers.cue_tracker import CueTracker


@dataclass(frozen=True)
class FlowConfig:
    """Settings of `FlowTracker`.

    Attributes:
        longest: longer side of the working picture in pixels.
        stride: pixels from patch to patch of the optical flow.
        words: colours of the codebook for local colour.
        target: settings of each object's models.
    """

    longest: int = 428
    stride: int = 4
    words: int = 64
    target: TargetConfig = field(default_factory=TargetConfig)


class FlowTracker(CueTracker):
    """Tracks any number of objects without a network; implements `samvideo.trackers.base.Tracker`."""

    def __init__(self, config: FlowConfig | None = None) -> None:
        self.config = config or FlowConfig()
        super().__init__(self.config.longest, self.config.stride, self.config.words, GrabCutSegmenter())

    def new_target(self) -> Target:
        """The models of a new object."""
        return Target(self.config.target)
