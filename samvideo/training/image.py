"""The training of an image model with the heads of SAM, on still pictures with masks (Kirillov et al. 2023)."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samvideo.errors import ConfigError, DatasetError
from samvideo.image_model import ImageModel
from samvideo.picture_sizes import prompt_scale
from samvideo.pictures import normalised
from samvideo.specs import IMAGE_SPECS
from samvideo.state_dict import build_spec
from samvideo.tensors import Features, PromptTensors
from samvideo.training.ahead import Ahead
from samvideo.training.candidates import MaskWeights, chosen_losses
from samvideo.training.clips import MIN_SHARE, ClipSampler
from samvideo.training.compose import ClipConfig
from samvideo.training.drawn import draw_shots
from samvideo.training.engine import Log, Stage, Validation, backward, fit
from samvideo.training.files import check_output, claimed, write
from samvideo.training.library import Library, Shot, library_digest
from samvideo.training.losses import soft_iou
from samvideo.training.prompting import STRIDE, box_prompts, click_prompts, corrected

FORMAT = "samvideo-image-1"


@dataclass(frozen=True)
class ImageRecipe:
    """What a training depends on beside its inputs.

    Attributes:
        pictures, windows: of a step: whole pictures, and crops around single objects. Each has one object, which is
            prompted by a box and, apart from it, by a click.
        fit: steps and rates.
        every: steps between two validations.
        seed: of everything random.
        terms: which groups of still images: "open", "unstated".
        drawn: pictures with drawn objects, beside the data, see `draw_shots`.
        weights: of the losses.
    """

    pictures: int = 6
    windows: int = 2
    fit: Stage = field(default_factory=lambda: Stage(2000, rate=6e-4, warmup=0.05, decay=0.05))
    every: int = 250
    seed: int = 1
    terms: tuple[str, ...] = ("open",)
    drawn: int = 300
    weights: MaskWeights = field(default_factory=MaskWeights)

    def changed(self, steps: int | None = None, pictures: int | None = None) -> "ImageRecipe":
        """With other numbers of steps and pictures; windows remain in proportion to the pictures."""
        recipe = self if steps is None else replace(self, fit=replace(self.fit, steps=steps))
        if pictures is None:
            return recipe
        return replace(recipe, pictures=pictures, windows=max(1, round(self.windows * pictures / self.pictures)))


RECIPES = {
    "cpu": ImageRecipe(),  # 2 cores: about half an hour for sam-vit-mini
    "cuda": ImageRecipe(48, 16, Stage(3000, rate=1e-3, warmup=0.05, decay=0.05)),
}


def train(recipe: ImageRecipe, name: str, objects: Sequence[Path], output: Path, device: str, log: Log) -> None:
    """Train a model from random weights and write it under the published names; the same arguments resume it.

    Args:
        recipe: steps, sizes, seed, terms and losses.
        name: an image model with the heads of SAM and without batch norms, such as sam-vit-mini.
        objects: folders of still images with masks, see `Library.read`; a tenth of the scenes is for validation.
        output: a safetensors file; its record and the unfinished state lie beside it.
        device: to train on, cpu or cuda.
        log: gets the progress.

    Raises:
        ConfigError: `output` is of another recipe, or the model cannot be trained here.
        OutputError: it cannot be written.
        DatasetError: broken or no data.
        SamVideoError: the training diverged.
        KeyboardInterrupt: a signal asked for the end.
    """
    if not objects:
        raise ConfigError("no data: folders of still images with masks expected")
    torch.manual_seed(recipe.seed)
    model = _untrained(name).to(device)
    learned = library_digest(objects, terms=recipe.terms)
    record = json.dumps({"format": FORMAT, "model": name, "data": learned, **asdict(recipe)}, indent=1)
    check_output(output, record)
    library = Library.read(objects, terms=recipe.terms, side="train", device=device)
    library = replace(library, stills={**library.stills, **draw_shots(library, recipe.drawn, recipe.seed)})
    with claimed(output, record):
        counts = ", ".join(f"{group} {len(shots)}" for group, shots in library.groups.items())
        log(f"{name}, seed {recipe.seed}, on {device}; data: {counts}")
        if not output.exists():
            state = output.with_suffix(".state")
            validation = Validation(_measure(model, objects, recipe, log), recipe.every)
            _Steps(model, library, recipe).fit(state, log, validation)
            write(output, {model.published(key): value for key, value in model.state_dict().items()}, record)
            state.unlink(missing_ok=True)
        log(f"{output} is finished ({output.stat().st_size / 1e6:.1f} MB)")


class _Steps:
    """The steps; what one sees depends on the seed and its number alone, so that it can be resumed."""

    def __init__(self, model: ImageModel, library: Library, recipe: ImageRecipe) -> None:
        self.model, self.recipe, self.device = model, recipe, model.device
        self.generator = torch.Generator()
        self.sampler = ClipSampler(library, ClipConfig(side=model.spec.input_wh[0]), self.generator)

    def fit(self, state: Path, log: Log, validation: Validation) -> None:
        """Train, in place."""
        stage, cuda = replace(self.recipe.fit, seed=self.recipe.seed), self.device.type == "cuda"
        with Ahead(self.draw, stage.steps, self.device) if cuda else nullcontext(self.draw) as draw:
            fit(self.model, lambda step: self.gradients(*draw(step)), stage, state, log, validation=validation)

    def draw(self, step: int) -> list[Tensor]:
        """Pictures (B, 3, S, S) in 0..1, and masks (B, S, S)."""
        self.generator.manual_seed(self.recipe.seed * 1_000_003 + step)
        with torch.no_grad():
            parts = self.sampler.pictures(self.recipe.pictures), self.sampler.windows(self.recipe.windows)
            return [torch.cat(both) for both in zip(*parts, strict=True)]

    def gradients(self, pictures: Tensor, masks: Tensor) -> Mapping[str, Tensor]:
        """Compute gradients of a step."""
        self.model.zero_grad(set_to_none=True)
        return backward(prompted_losses(self.model, pictures, masks, self.recipe.weights))


def prompted_losses(model: ImageModel, pictures: Tensor, masks: Tensor, weights: MaskWeights) -> dict[str, Tensor]:
    """Losses and measurements by name, of a box and of a click on each object, then both again with a correction.

    Args:
        model: an image model with the heads of SAM.
        pictures: (B, 3, S, S) in 0..1.
        masks: (B, S, S) of 0 and 1, none of them empty.
        weights: of the losses.
    """
    with torch.autocast(pictures.device.type, torch.bfloat16, enabled=pictures.device.type == "cuda"):
        features = model.encode(normalised(pictures, model.spec))  # the heads stay in float32, so clicks keep place
    truth = F.avg_pool2d(masks[:, None], STRIDE)[:, 0]

    def answer(prompts: PromptTensors, earlier: Tensor | None, ambiguous: bool) -> tuple[Tensor, dict[str, Tensor]]:
        candidates = model.decode(features, model.embedding(features), _placed(model, prompts), earlier)
        kept = slice(1, None) if ambiguous else slice(0, 1)
        return chosen_losses(candidates.logits_bnhw[:, kept], candidates.quality_bn[:, kept], truth, weights)

    found: list[dict[str, Tensor]] = []
    for prompts, click in ((box_prompts(truth), False), (click_prompts(truth), True)):
        logits, first = answer(prompts, None, click)
        _, second = answer(corrected(prompts, logits, truth), logits[:, None], False)
        found += [first, second]
    box, box_again, click_, click_again = (part.pop("iou") for part in found)
    losses = {name: torch.stack([part[name] for part in found]).mean() for name in found[0]}
    return losses | {"box IoU": box, "click IoU": click_, "corrected IoU": (box_again + click_again) / 2}


def _measure(
    model: ImageModel, objects: Sequence[Path], recipe: ImageRecipe, log: Log
) -> Callable[[], Mapping[str, float]]:
    """What validation measures, on the pictures kept for it; nothing where there are none."""
    try:
        library = Library.read(objects, terms=recipe.terms, side="validation", device=model.device)
        measurable(library)
    except DatasetError as error:
        log(f"no validation: {error}")
        return dict
    return lambda: {"box IoU": box_iou(model, library)}


OBJECTS, BATCH = 4, 32
"""Objects of a picture that are measured, the largest; pictures that are encoded at once."""


@torch.no_grad()
def box_iou(model: ImageModel, library: Library) -> float:
    """Mean IoU, over objects, of the masks that answer their exact boxes, at the size of the model's input.

    Raises:
        DatasetError: see `measurable`.
    """
    examples = [largest_objects(shot, model.spec.input_wh[0]) for shot in measurable(library)]
    ious = []
    for begin in range(0, len(examples), BATCH):
        pictures, masks, boxes = zip(*examples[begin : begin + BATCH], strict=True)
        features = model.encode(normalised(torch.cat(pictures), model.spec))
        for row, (truth, box) in enumerate(zip(masks, boxes, strict=True)):
            coarse = features.coarse[row : row + 1].expand(len(box), -1, -1, -1)
            one = Features(coarse, tuple(fine[row : row + 1] for fine in features.fine))
            labels = torch.tensor([2, 3], device=box.device).expand(len(box), -1)
            prompts = _placed(model, PromptTensors(box, labels))
            logits = model.decode(one, model.embedding(one), prompts).logits_bnhw[:, :1]
            ious.append(soft_iou(F.interpolate(logits, size=truth.shape[1:], mode="bilinear")[:, 0], truth))
    return torch.cat(ious).mean().item()


def measurable(library: Library) -> list[Shot]:
    """Stills that show an object of at least `MIN_SHARE` of the picture; DatasetError if there is none."""
    stills = [shot for shots in library.stills.values() for shot in shots]
    found = [shot for shot in stills if shot.areas.max() >= MIN_SHARE * math.prod(shot.size_wh)]
    if not found:
        raise DatasetError(
            f"none of the {len(stills)} pictures to measure on shows an object of {MIN_SHARE:.2%} of its area: "
            "larger objects, or other pictures, are needed"
        )
    return found


def largest_objects(shot: Shot, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """A picture (1, 3, S, S) in 0..1, masks (K, S, S) of its largest objects, and their boxes (K, 2, 2).

    Smaller objects than `measurable` wants are left out.
    """
    size = (side, side)
    picture = F.interpolate(shot.pixels[:, :3].float() / 255, size=size, mode="bilinear", antialias=True)
    largest = (-shot.areas[0]).argsort(kind="stable")[:OBJECTS]
    largest = largest[shot.areas[0, largest] >= MIN_SHARE * math.prod(shot.size_wh)]
    ids = torch.from_numpy(largest + 1).to(shot.pixels.device)
    masks = F.interpolate(shot.pixels[:, 3:].float(), size=size, mode="nearest-exact")[0] == ids[:, None, None]
    scale = torch.tensor(shot.size_wh, device=ids.device) / side
    boxes = torch.from_numpy(shot.boxes[0]).to(ids.device)[ids - 1].view(-1, 2, 2) / scale - 0.5
    return picture, masks.float(), boxes


def _placed(model: ImageModel, prompts: PromptTensors) -> PromptTensors:
    """Prompts in pixels of a square picture of the input's size, in the frame of prompts."""
    return prompts._replace(xy=prompts.xy * prompt_scale(model.spec.input_wh, model.spec)[0])


def _untrained(name: str) -> ImageModel:
    """A model with random weights; ConfigError if it is none that can be trained here."""
    model = build_spec(IMAGE_SPECS[name]) if name in IMAGE_SPECS else None
    if not isinstance(model, ImageModel) or model.encoder.stride != 4 * STRIDE:
        raise ConfigError(f"{name!r} is not an image model whose training is known here; sam-vit-mini is one")
    if any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules()):
        raise ConfigError(f"{name} has batch norms, which need pretrained weights; sam-vit-mini can be trained")
    return model
