"""Settings of an analysis."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from samvideo.errors import ConfigError

IDLE_SHARE = 0.02  # of the frame's diagonal per second


@dataclass(frozen=True)
class AnalysisSettings:
    """Settings of an analysis; the defaults suit laparoscopic video. ConfigError for a number out of range.

    Attributes:
        labels: object id -> class, by default the label that the run has; objects without one are classes of
            their own, "object 1".
        tissue: ids of objects that are not instruments; contacts among them and their usage are not reported.
        bridge: seconds; an object that is hidden for at most this long counts as in view throughout, and its path
            crosses the gap in a straight line.
        contact_gap: pixels; masks at most this far from each other are in contact. 0: they touch or overlap.
        idle_speed: an object whose centroid is slower is idle, in pixels (or mm) per second; None for 2 % of the
            frame's diagonal per second.
        idle_seconds: shorter rests do not count as idle intervals.
        smooth: seconds, the window of the Savitzky-Golay filter.
        mm_per_pixel: scale of all lengths; None leaves them in pixels.
        fps: frames per second, instead of the times in the run.
    """

    labels: Mapping[int, str] = field(default_factory=dict)
    tissue: frozenset[int] = frozenset()
    bridge: float = 0.2
    contact_gap: float = 0.0
    idle_speed: float | None = None
    idle_seconds: float = 1.0
    smooth: float = 0.4
    mm_per_pixel: float | None = None
    fps: float | None = None

    def __post_init__(self) -> None:
        for name in ("bridge", "contact_gap", "idle_seconds", "smooth"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} must be a finite number, at least 0, not {getattr(self, name)}")
        for name in ("idle_speed", "mm_per_pixel", "fps"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"{name} must be a finite number above 0, not {value}")

    @property
    def unit(self) -> str:
        """Unit of lengths, `px` or `mm`."""
        return "px" if self.mm_per_pixel is None else "mm"

    @property
    def scale(self) -> float:
        """Units of length per pixel."""
        return self.mm_per_pixel or 1.0

    def label(self, object_id: int) -> str:
        """Return the class of an object."""
        return self.labels.get(object_id, f"object {object_id}")

    def kind(self, object_id: int) -> str:
        """Return `instrument` or `tissue`."""
        return "tissue" if object_id in self.tissue else "instrument"

    def idle_speed_at(self, size_wh: tuple[int, int]) -> float:
        """Return the idle speed for frames of this size, in units of length per second."""
        return self.idle_speed or IDLE_SHARE * math.hypot(*size_wh) * self.scale
