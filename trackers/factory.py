"""From a model's name to a tracker; nothing is imported before it is asked for."""

from difflib import get_close_matches

from samvideo.errors import ConfigError
from samvideo.trackers.base import Tracker

BUILT_IN = ("flow",)


def create_tracker(model: str = "flow") -> Tracker:
    """A fresh tracker.

    Args:
        model: `"flow"`, the built-in tracker that needs no weights.

    Raises:
        ConfigError: no model of that name.
    """
    if model == "flow":
        from samvideo.trackers.flow import FlowTracker

        return FlowTracker()
    near = get_close_matches(model, BUILT_IN, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(BUILT_IN)}"
    raise ConfigError(f"there is no model {model!r}; {hint}")
