"""How `samvideo track` and `samvideo segment` find objects."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from samvideo.cli.models import image_segmenter, ready_segmenter, ready_tracker
from samvideo.errors import ConfigError
from samvideo.search_settings import SearchSettings

if TYPE_CHECKING:
    from samvideo.prompters.base import AutoPrompter
    from samvideo.run import RunSettings
    from samvideo.segmenters.base import Segmenter
    from samvideo.trackers.base import Tracker

PROMPTER_HELP = "How objects are found: auto, grid or hierarchical."


def choose_prompter(name: str, model: str) -> str:
    """The name of an automatic prompter; "auto" is SAM's grid."""
    from samvideo.prompters.factory import find_prompter

    return find_prompter(name, model)


def make_prompter(name: str) -> "Callable[[Segmenter], AutoPrompter]":
    """Return what makes the prompter of a segmenter."""
    from samvideo.prompters.factory import load_prompter

    return lambda segmenter: load_prompter(name, segmenter)


def choose_search(prompter: str, texts: tuple[str, ...] | None, every: float, most: int) -> SearchSettings:
    """The settings of a search; ConfigError for options that do not fit."""
    from samvideo.prompters.factory import find_prompter

    if not (math.isfinite(every) and every > 0):
        raise ConfigError(f"--every {every}: a number of seconds above 0 expected")
    if texts is not None and prompter not in ("auto", "text"):
        raise ConfigError(f"--prompt text=... is what the prompter text is for: leave --prompter {prompter} out")
    name = "text" if texts is not None else find_prompter(prompter, "")
    return SearchSettings(name, texts, every, most)


def searching_tracker(settings: "RunSettings", quiet: bool) -> "Tracker":
    """The tracker of a run and, where it searches for objects, what finds them."""
    tracker = ready_tracker(settings.model, quiet=quiet, **settings.options)
    if settings.search is None:
        return tracker
    from samvideo.prompters.factory import load_prompter
    from samvideo.prompters.looks import looks_of
    from samvideo.trackers.discovery import DiscoveringTracker, DiscoveryConfig

    search = settings.search
    segmenter = _segmenter(settings, quiet)
    config = DiscoveryConfig(every=search.every, most=search.most)
    return DiscoveringTracker(tracker, load_prompter(search.prompter, segmenter), config, looks_of(segmenter))


def _segmenter(settings: "RunSettings", quiet: bool) -> "Segmenter":
    """What segments the objects that are found: that of --first-mask, or the model itself."""
    options = dict(settings.options)
    first_mask = options.pop("first_mask")
    if first_mask is None:
        return ready_segmenter(settings.model, options)
    return image_segmenter(first_mask, quiet=quiet, device=options["device"], dtype=options["dtype"])
