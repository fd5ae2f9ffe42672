"""`samvideo distill`: a light model learns from another one, without labels."""

from pathlib import Path

import typer

from samvideo.cli.common import verb
from samvideo.cli.training import log_to, training_device

STUDENT_HELP = "Model to train, NAME or NAME=FILE; without a file, untrained but for layers of the teacher."
TEACHER_HELP = "Model to learn from, NAME or NAME=FILE."
IMAGES_HELP = "Folder of pictures, which need no labels; folders called masks or Annotations are not read."
VIDEOS_HELP = "Folder of video files or of folders of frames, instead of pictures; recipe video needs it."
RECIPE_HELP = "What is learned, NAME or NAME:OPTION=VALUE,...: features, prompts, full, sami, layers, video."
BATCH_HELP = "Pictures, or clips, of a step, of all processes together [the recipe's: 8 pictures or 2 clips]."
CACHE_HELP = "Folder that keeps the features of the teacher: computed once for any number of trainings."
OUT_HELP = "Weights to write, .safetensors; beside it: .log, .recipe.json and, while unfinished, .state."


@verb
def distill(
    student: str = typer.Argument(help=STUDENT_HELP),
    teacher: str = typer.Option(..., metavar="MODEL[=FILE]", help=TEACHER_HELP),
    images: Path | None = typer.Option(None, metavar="DIR", help=IMAGES_HELP),
    videos: Path | None = typer.Option(None, metavar="DIR", help=VIDEOS_HELP),
    recipe: str = typer.Option("features", metavar="NAME", help=RECIPE_HELP),
    out: Path = typer.Option(..., "-o", "--out", metavar="FILE", help=OUT_HELP),
    steps: int | None = typer.Option(None, min=1, help="Steps [the recipe's]."),
    batch: int | None = typer.Option(None, min=1, help=BATCH_HELP),
    every: int = typer.Option(250, min=1, help="Steps between two validations."),
    seed: int = typer.Option(1, min=0, max=2**31 - 1, help="Of everything random."),
    cache: Path | None = typer.Option(None, metavar="DIR", help=CACHE_HELP),
    nproc: int = typer.Option(1, min=1, help="Processes that share each batch."),
    workers: int = typer.Option(2, min=0, help="Processes that decode pictures, for each of them."),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
    threads: int | None = typer.Option(None, min=1, help="CPU threads [all cores]."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress."),
) -> None:
    """Distil a model into a lighter one, from pictures without labels; the same command resumes it."""
    from samvideo.evaluation.threads import limit_loaded
    from samvideo.training.distil import Inputs, Plan, distil

    if threads is not None:
        limit_loaded(threads)
    inputs = Inputs(student, teacher, images, videos, cache, training_device(device), workers)
    plan = Plan(recipe, steps, batch, seed, every)
    distil(inputs, plan, out, log_to(out, quiet=quiet), nproc)
