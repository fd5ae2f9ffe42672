"""From the name of an automatic prompter to one that is ready. Needs torch once it is loaded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from samvideo.errors import ConfigError
from samvideo.prompters.base import AutoPrompter, Embed
from samvideo.prompters.boxes import BoxesPrompter, Detector
from samvideo.prompters.grid import GridPrompter
from samvideo.prompters.hierarchical import HierarchicalPrompter
from samvideo.segmenters.base import Segmenter
from samvideo.types import UInt8Array
from samvideo.weights.naming import split_name

AUTO = "auto"


@dataclass(frozen=True)
class PrompterOptions:
    """What a prompter is made of.

    Attributes:
        embed: encodes images by the model that segments.
        segmenter: that model as a segmenter.
        detector: finds boxes, for prompters that need one.
        weights: of a prompter that has some.
    """

    embed: Embed
    segmenter: Segmenter
    detector: Detector | None = None
    weights: Path | None = None


def _boxes(options: PrompterOptions) -> AutoPrompter:
    if options.detector is None:
        raise ConfigError("the prompter boxes needs a detector: name one with --detector, or give a file of boxes")
    return BoxesPrompter(options.embed, options.detector)


def _learned(options: PrompterOptions) -> AutoPrompter:
    from samvideo.prompters.learned import load_learned
    from samvideo.segmenters.image_model import ImageModelSegmenter

    assert isinstance(options.segmenter, ImageModelSegmenter)
    return load_learned(options.segmenter, options.weights)


PROMPTERS: Mapping[str, Callable[[PrompterOptions], AutoPrompter]] = {
    "grid": lambda options: GridPrompter(options.embed),
    "hierarchical": lambda options: HierarchicalPrompter(options.embed),
    "boxes": _boxes,
    "learned": _learned,
}
WITH_WEIGHTS = ("learned",)


def find_prompter(name: str, model: str) -> str:
    """Return the name of a prompter, also NAME=FILE, and what "auto" means for a model; ConfigError for another."""
    if name == AUTO:
        return "grid"
    kind, weights = split_name(name)
    if kind not in PROMPTERS:
        raise ConfigError(f"there is no prompter {kind!r}; known: {AUTO}, {', '.join(PROMPTERS)}")
    if weights is not None and kind not in WITH_WEIGHTS:
        raise ConfigError(f"the prompter {kind} has no weights: leave ={weights} out")
    return name


def load_prompter(name: str, segmenter: Segmenter, *, detector: Detector | None = None) -> AutoPrompter:
    """Make a prompter that segments with a model.

    Args:
        name: one of `PROMPTERS`; learned=FILE for weights other than the package's, which it has for `nano`.
        segmenter: from `load_segmenter`; a model of the SAM family.
        detector: finds boxes, for `boxes`.

    Raises:
        ConfigError: no prompter of that name, a segmenter without a model, no detector or no weights where they are
            needed, or weights where there are none.
        WeightsError: the weights are not there, or of another model.
    """
    from samvideo.prompters.decoding import PromptedPart
    from samvideo.segmenters.image_model import ImageModelSegmenter

    name, weights = split_name(find_prompter(name, ""))
    if not isinstance(segmenter, ImageModelSegmenter):
        raise ConfigError(f"the prompter {name} needs a model of the SAM family, which this segmenter is not")
    model = segmenter.model

    def embed(rgb: UInt8Array, part: tuple[int, int, int, int]) -> PromptedPart:
        return PromptedPart(model, rgb, part)

    return PROMPTERS[name](PrompterOptions(embed, segmenter, detector, weights))
