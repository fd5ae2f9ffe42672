"""The tracker that needs no weights: optical flow, colours, motion and a classifier learned while it watches."""

from dataclasses import dataclass, field

from samvideo.trackers.cue_tracker import CueTracker
from samvideo.trackers.objects import ObjectPrompt
from samvideo.trackers.parts.prompting import box_to_mask, clicks_to_mask
from samvideo.trackers.parts.target import Target, TargetConfig
from samvideo.types import BoolArray, FloatArray, UInt8Array


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
        super().__init__(self.config.longest, self.config.stride, self.config.words)

    def new_target(self) -> Target:
        """The models of a new object."""
        return Target(self.config.target)

    def first_mask(
        self, rgb: UInt8Array, prompt: ObjectPrompt, before: BoolArray, motion: FloatArray | None = None
    ) -> BoolArray:
        """bool (H, W): by GrabCut."""
        if prompt.box is not None:
            return box_to_mask(rgb, prompt.box, prompt.xy, prompt.labels)
        return clicks_to_mask(rgb, prompt.xy, prompt.labels, before)
