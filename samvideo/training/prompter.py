"""The training of a learned prompter: a head on the features of an image model, which stays as it is."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from samvideo.errors import ConfigError
from samvideo.image_model import ImageModel
from samvideo.pictures import normalised
from samvideo.prompters.decoding import inclusive_boxes
from samvideo.prompters.objectness import ObjectnessHead
from samvideo.segmenters.factory import load_segmenter
from samvideo.segmenters.image_model import ImageModelSegmenter
from samvideo.training.clips import MIN_SHARE, ClipSampler
from samvideo.training.compose import ClipConfig
from samvideo.training.detection import DetectionConfig, detection_losses
from samvideo.training.drawn import draw_shots
from samvideo.training.engine import Log, Stage, backward, fit
from samvideo.training.files import check_output, claimed, sha256, write
from samvideo.training.library import Library, library_digest
from samvideo.weights.naming import is_random, split_name, weight_files

FORMAT = "samvideo-prompter-1"


@dataclass(frozen=True)
class PrompterRecipe:
    """What a training depends on beside its inputs.

    Attributes:
        sides: of the square pictures in pixels, in turn; a model with inputs of one size only has that.
        pixels: of the pictures of a step, about.
        fit: steps and rates.
        seed: of everything random.
        terms: which groups of still images and clips: "open", "unstated".
        drawn: pictures with drawn objects, beside the data, see `draw_shots`.
        losses: assignment of objects to places, and weights.
    """

    sides: tuple[int, ...] = (640, 512, 640, 384)
    pixels: int = 3 * 640**2
    fit: Stage = field(default_factory=lambda: Stage(1600, rate=2e-3))
    seed: int = 1
    terms: tuple[str, ...] = ("open",)
    drawn: int = 150
    losses: DetectionConfig = field(default_factory=DetectionConfig)

    def changed(self, steps: int | None = None) -> "PrompterRecipe":
        """With another number of steps."""
        return self if steps is None else replace(self, fit=replace(self.fit, steps=steps))


RECIPES = {
    "cpu": PrompterRecipe(),  # 2 cores: about twenty minutes with the bundled model
    "cuda": PrompterRecipe(pixels=24 * 640**2, fit=Stage(6000, rate=2e-3)),
}


@dataclass(frozen=True)
class PrompterInputs:
    """What a training reads.

    Attributes:
        objects: folders of still images with masks.
        videos: folders of annotated clips, in the layout of DAVIS.
        model: NAME or NAME=FILE, an image or video model of the SAM family.

    Raises:
        ConfigError: nothing to learn from.
    """

    objects: tuple[Path, ...] = ()
    videos: tuple[Path, ...] = ()
    model: str = "nano"

    def __post_init__(self) -> None:
        if not self.objects and not self.videos:
            raise ConfigError("no data: folders of still images, of videos, or of both expected")


def train(recipe: PrompterRecipe, inputs: PrompterInputs, output: Path, device: str, log: Log) -> None:
    """Train a head and write its weights; the same arguments resume it.

    Args:
        recipe: steps, seed, terms and losses.
        inputs: data, and the model whose features the head reads.
        output: a safetensors file; its record and the unfinished state lie beside it.
        device: to train on.
        log: gets the progress.

    Raises:
        ConfigError: `output` is of another recipe, or the model is none of the SAM family.
        OutputError: it cannot be written.
        WeightsError: the weights of the model are not there.
        DatasetError: broken or no data.
        SamVideoError: the training diverged.
        KeyboardInterrupt: a signal asked for the end.
    """
    described = _described(inputs.model)
    learned = library_digest(inputs.objects, inputs.videos, terms=recipe.terms)
    record = json.dumps({"format": FORMAT, **described, "data": learned, **asdict(recipe)}, indent=1)
    check_output(output, record)
    model = _model(inputs.model, device)
    library = Library.read(inputs.objects, inputs.videos, terms=recipe.terms, side="train", device=device)
    library = replace(library, stills={**library.stills, **draw_shots(library, recipe.drawn, recipe.seed)})
    with claimed(output, record):
        counts = ", ".join(f"{group} {len(shots)}" for group, shots in library.groups.items())
        log(f"prompter of {model.name}, seed {recipe.seed}, on {device}; data: {counts}")
        if not output.exists():
            state = output.with_suffix(".state")
            steps = _Steps(model, library, recipe)
            fit(steps.head, steps.losses, replace(recipe.fit, seed=recipe.seed), state, log)
            write(output, steps.head.state_dict(), record)
            state.unlink(missing_ok=True)
        log(f"{output} is finished ({output.stat().st_size / 1e6:.1f} MB)")


class _Steps:
    """The steps; what one sees depends on the seed and its number alone, so that it can be resumed."""

    def __init__(self, model: ImageModel, library: Library, recipe: PrompterRecipe) -> None:
        torch.manual_seed(recipe.seed)
        self.model, self.recipe = model, recipe
        self.head = ObjectnessHead.of(model).to(model.device)
        self.generator = torch.Generator()
        self.sampler = ClipSampler(library, ClipConfig(), self.generator)
        self.sides = recipe.sides if model.spec.picture.fit == "area" else (max(model.spec.input_wh),)

    def losses(self, step: int) -> Mapping[str, Tensor]:
        """Compute gradients of a step."""
        self.head.zero_grad(set_to_none=True)
        self.generator.manual_seed(self.recipe.seed * 1_000_003 + step)
        side = self.sides[step % len(self.sides)]
        with torch.no_grad():
            frames, masks = self.sampler.scenes(max(1, round(self.recipe.pixels / side**2)), side)
            features = self.model.encode(normalised(frames, self.model.spec))
        return backward(detection_losses(self.head(features), object_boxes(masks), self.recipe.losses))


def object_boxes(masks: Tensor) -> Tensor:
    """(B, O, 4) boxes of (B, O, S, S) masks, x1, y1, x2, y2; zeros for those of too few pixels."""
    flat = masks.flatten(0, 1)
    boxes = inclusive_boxes(flat > 0) + torch.tensor([0, 0, 1, 1], device=masks.device)
    seen = flat.mean((1, 2)) >= MIN_SHARE
    return (boxes * seen[:, None]).view(*masks.shape[:2], 4).float()


def _model(name: str, device: str) -> ImageModel:
    """The model, which does not learn, ready for inference."""
    segmenter = load_segmenter(name, device=device, dtype="fp32")
    if not isinstance(segmenter, ImageModelSegmenter):
        raise ConfigError(
            f"a prompter is trained on the features of a model of the SAM family, which {name} is not"
        )
    return segmenter.model.requires_grad_(False)


def _described(model: str) -> dict[str, object]:
    """Name of the model and, where they are not the published ones, digests of its weights."""
    name, weights = split_name(model)
    own = weights is not None and not is_random(weights)
    return {"model": name, **({"weights": [*map(sha256, weight_files(weights))]} if own and weights else {})}
