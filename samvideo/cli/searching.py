"""How `samvideo track` and `samvideo segment` take prompts, and find objects without them."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from samvideo.cli.models import announce_choice, image_segmenter, ready_segmenter, ready_tracker
from samvideo.cli.ui import TOOLS
from samvideo.errors import ConfigError
from samvideo.search_settings import SearchSettings

if TYPE_CHECKING:
    from samvideo.prompters.base import AutoPrompter
    from samvideo.run import RunSettings
    from samvideo.segmenters.base import Segmenter
    from samvideo.trackers.base import Tracker

PROMPTER_HELP = (
    "How objects are found: auto, learned[=FILE], grid, hierarchical, boxes, text or instances; options: "
    "grid:points=16,quality=0.7,stability=0.8."
)
DETECTOR_HELP = (
    "Of boxes, text and instances: a name, folder or address of a detector, a file of boxes, MODULE:FUNCTION."
)
WITH_DETECTOR = ("boxes", "text", "instances")


def choose_search(
    model: str, prompter: str, texts: tuple[str, ...] | None, detector: str | None, most: int, every: float = 1.0
) -> SearchSettings:
    """The settings of a search by a model; ConfigError for options that do not fit."""
    from samvideo.prompters.factory import find_prompter

    if not (math.isfinite(every) and every > 0):
        raise ConfigError(f"--every {every}: a number of seconds above 0 expected")
    if texts is not None and prompter not in ("auto", "text"):
        raise ConfigError(f"--prompt text=... is what the prompter text is for: leave --prompter {prompter} out")
    if texts is None and prompter == "text":
        raise ConfigError("the prompter text needs texts: --prompt 'text=person; ball', for instance, expected")
    name = "text" if texts is not None else find_prompter(prompter, model)
    if detector is not None and name not in WITH_DETECTOR:
        raise ConfigError(f"--detector is for the prompters {', '.join(WITH_DETECTOR)}, not for {name}")
    return SearchSettings(name, texts, detector, most, every)


def make_prompter(search: SearchSettings) -> "Callable[[Segmenter], AutoPrompter]":
    """Return what makes the prompter of a segmenter."""
    from samvideo.prompters.factory import load_prompter

    return lambda segmenter: load_prompter(search.prompter, segmenter, detector=search.detector, texts=search.texts)


def searching_tracker(settings: "RunSettings", quiet: bool) -> "Tracker":
    """The tracker of a run and, where it searches for objects, what finds them."""
    announce_choice()
    tracker = ready_tracker(settings.model, quiet=quiet, **settings.options)
    if settings.search is None:
        return tracker
    from samvideo.prompters.appearance import appearance_of
    from samvideo.trackers.discovery import DiscoveringTracker, DiscoveryConfig

    search = settings.search
    segmenter = _segmenter(settings, quiet)
    config = DiscoveryConfig(every=search.every, most=search.most)
    return DiscoveringTracker(tracker, make_prompter(search)(segmenter), config, appearance_of(segmenter))


def _segmenter(settings: "RunSettings", quiet: bool) -> "Segmenter":
    """What segments the objects that are found: that of --first-mask, or the model itself."""
    options = dict(settings.options)
    first_mask = options.pop("first_mask")
    if first_mask is None and "runtime" in options:
        raise ConfigError(f"objects are found with torch: with --runtime {options['runtime']}, give --first-mask")
    if first_mask is None:
        return ready_segmenter(settings.model, options)
    return image_segmenter(first_mask, quiet=quiet, device=options["device"], dtype=options["dtype"])


def split_prompts(prompts: list[str], expected: str, resume: bool = False) -> tuple[list[str], list[str]]:
    """Split prompts into those without coordinates, which the page collects, and those with them."""
    if not prompts:
        raise ConfigError(
            "there is no prompt: give --prompt box to draw it in the browser, or for instance "
            f"--prompt box=40,60,200,220\n{expected}"
        )
    tools = [text for text in prompts if text in TOOLS]
    if tools and resume:
        raise ConfigError(f"--resume goes on with the same prompts: give coordinates, not {tools[0]!r} alone")
    return tools, [text for text in prompts if text not in TOOLS]
