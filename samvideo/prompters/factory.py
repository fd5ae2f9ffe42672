"""From the name of an automatic prompter to one that is ready. Needs torch once it is loaded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samvideo.errors import ConfigError
from samvideo.option_text import split_options, with_options
from samvideo.prompters.base import PUBLISHED, AutoPrompter, Embed, MaskFilter
from samvideo.prompters.boxes import BoxesPrompter, Detector
from samvideo.prompters.detectors import load_detector
from samvideo.prompters.grid import GridConfig, GridPrompter
from samvideo.prompters.hierarchical import HierarchicalConfig, HierarchicalPrompter
from samvideo.prompters.rcnn import Rcnn
from samvideo.prompters.text import TextPrompter
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
        config: of a prompter that has one.
    """

    embed: Embed
    segmenter: Segmenter
    detector: Detector | None = None
    weights: Path | None = None
    config: Any = None


def _boxes(options: PrompterOptions) -> AutoPrompter:
    if options.detector is None:
        raise ConfigError("the prompter boxes needs a detector: name one with --detector, or give a file of boxes")
    return BoxesPrompter(options.embed, options.detector)


def _text(options: PrompterOptions) -> AutoPrompter:
    if options.detector is None:
        raise ConfigError('the prompter text needs texts, such as "person; ball", or a detector that has them')
    return TextPrompter(options.embed, options.detector)


def _instances(options: PrompterOptions) -> AutoPrompter:
    if not isinstance(options.detector, Rcnn):
        raise ConfigError("the prompter instances needs an instance segmenter as its detector: mask-rcnn")
    return options.detector


def _learned(options: PrompterOptions) -> AutoPrompter:
    from samvideo.prompters.learned import load_learned
    from samvideo.segmenters.image_model import ImageModelSegmenter

    assert isinstance(options.segmenter, ImageModelSegmenter)
    return load_learned(options.segmenter, options.weights, options.config)


def _learned_config(keep: MaskFilter) -> Any:
    from samvideo.prompters.learned import LearnedConfig

    return LearnedConfig()


CONFIGS: Mapping[str, Callable[[MaskFilter], Any]] = {
    "grid": lambda keep: GridConfig(keep=keep),
    "hierarchical": lambda keep: HierarchicalConfig(keep=keep),
    "learned": _learned_config,
}
"""Of prompters with options, by the masks that a model keeps."""
PROMPTERS: Mapping[str, Callable[[PrompterOptions], AutoPrompter]] = {
    "grid": lambda options: GridPrompter(options.embed, options.config),
    "hierarchical": lambda options: HierarchicalPrompter(options.embed, options.config),
    "boxes": _boxes,
    "text": _text,
    "instances": _instances,
    "learned": _learned,
}
WITH_WEIGHTS = ("learned",)
DETECTORS: Mapping[str, str] = {"text": "grounding-dino", "instances": "mask-rcnn"}
"""Those that prompters have by default."""


def find_prompter(name: str, model: str) -> str:
    """Return the name of a prompter, also NAME=FILE or NAME:OPTION=VALUE,..., and what "auto" means for a model.

    Raises:
        ConfigError: no such prompter or option, or weights for one that has none.
    """
    if name == AUTO:
        from samvideo.prompters.learned import bundled_file

        return "grid" if bundled_file(model) is None else "learned"
    text, options = split_options(name)
    kind, weights = split_name(text)
    if kind not in PROMPTERS:
        raise ConfigError(f"there is no prompter {kind!r}; known: {AUTO}, {', '.join(PROMPTERS)}")
    if weights is not None and kind not in WITH_WEIGHTS:
        raise ConfigError(f"the prompter {kind} has no weights: leave ={weights} out")
    if options is not None:
        _config(kind, options, PUBLISHED)
    return name


def _config(kind: str, options: str | None, keep: MaskFilter) -> Any:
    """The config of a prompter with options as text; ConfigError for wrong ones."""
    if kind in CONFIGS:
        return with_options(CONFIGS[kind](keep), options, f"the prompter {kind}")
    if options is not None:
        raise ConfigError(f"the prompter {kind} has no options: leave :{options} out")
    return None


def load_prompter(
    name: str, segmenter: Segmenter, *, detector: Detector | str | None = None, texts: Sequence[str] | None = None
) -> AutoPrompter:
    """Make a prompter that segments with a model.

    Args:
        name: one of `PROMPTERS`; learned=FILE for weights other than the package's, which it has for `nano`;
            grid:points=16,quality=0.8 for options, the fields of the prompter's config.
        segmenter: from `load_segmenter`; a model of the SAM family.
        detector: finds boxes, for `boxes` and `text`; or its name, as `samvideo.prompters.detectors.load_detector`
            takes it. See `DETECTORS`.
        texts: what the detector of this name looks for.

    Raises:
        ConfigError: no prompter of that name, a segmenter without a model, no detector, texts or weights where they
            are needed, or some where there are none; and as `load_detector`.
        WeightsError: the weights are not there, or of another model.
    """
    from samvideo.prompters.decoding import PromptedPart
    from samvideo.segmenters.image_model import ImageModelSegmenter

    if not isinstance(segmenter, ImageModelSegmenter):
        raise ConfigError(f"the prompter {name} needs a model of the SAM family, which this segmenter is not")
    model = segmenter.model
    text, options = split_options(find_prompter(name, model.name))
    name, weights = split_name(text)
    config = _config(name, options, MaskFilter(*model.spec.mask_filter))

    def embed(rgb: UInt8Array, part: tuple[int, int, int, int]) -> PromptedPart:
        return PromptedPart(model, rgb, part)

    if detector is None and (texts is not None or name == "instances"):
        detector = DETECTORS.get(name)
    if isinstance(detector, str):
        detector = load_detector(detector, device=str(model.device), texts=texts)
    elif texts is not None:
        raise ConfigError(
            f"the prompter {name} has no use for texts: name a detector beside them, or leave them out"
        )
    return PROMPTERS[name](PrompterOptions(embed, segmenter, detector, weights, config))
