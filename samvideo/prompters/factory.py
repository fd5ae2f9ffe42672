"""From the name of an automatic prompter to one that is ready. Needs torch once it is loaded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from samvideo.errors import ConfigError
from samvideo.prompters.base import AutoPrompter, Embed
from samvideo.prompters.boxes import BoxesPrompter, Detector
from samvideo.prompters.grid import GridPrompter
from samvideo.prompters.hierarchical import HierarchicalPrompter
from samvideo.segmenters.base import Segmenter
from samvideo.types import UInt8Array

AUTO = "auto"


@dataclass(frozen=True)
class PrompterOptions:
    """What a prompter is made of.

    Attributes:
        embed: encodes images by the model that segments.
        detector: finds boxes, for prompters that need one.
    """

    embed: Embed
    detector: Detector | None = None


def _boxes(options: PrompterOptions) -> AutoPrompter:
    if options.detector is None:
        raise ConfigError("the prompter boxes needs a detector: name one with --detector, or give a file of boxes")
    return BoxesPrompter(options.embed, options.detector)


PROMPTERS: Mapping[str, Callable[[PrompterOptions], AutoPrompter]] = {
    "grid": lambda options: GridPrompter(options.embed),
    "hierarchical": lambda options: HierarchicalPrompter(options.embed),
    "boxes": _boxes,
}


def find_prompter(name: str, model: str) -> str:
    """Return the name of a prompter, and what "auto" means for a model; ConfigError for an unknown one."""
    if name == AUTO:
        return "grid"
    if name not in PROMPTERS:
        raise ConfigError(f"there is no prompter {name!r}; known: {AUTO}, {', '.join(PROMPTERS)}")
    return name


def load_prompter(name: str, segmenter: Segmenter, *, detector: Detector | None = None) -> AutoPrompter:
    """Make a prompter that segments with a model.

    Args:
        name: one of `PROMPTERS`.
        segmenter: from `load_segmenter`; a model of the SAM family.
        detector: finds boxes, for `boxes`.

    Raises:
        ConfigError: no prompter of that name, a segmenter without a model, or no detector where one is needed.
    """
    from samvideo.prompters.decoding import PromptedPart
    from samvideo.segmenters.image_model import ImageModelSegmenter

    name = find_prompter(name, "")
    if not isinstance(segmenter, ImageModelSegmenter):
        raise ConfigError(f"the prompter {name} needs a model of the SAM family, which this segmenter is not")
    model = segmenter.model

    def embed(rgb: UInt8Array, part: tuple[int, int, int, int]) -> PromptedPart:
        return PromptedPart(model, rgb, part)

    return PROMPTERS[name](PrompterOptions(embed, detector))
