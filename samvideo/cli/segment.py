"""`samvideo segment`: segment prompted objects of images, or of a volume."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from samvideo.cli.common import THRESHOLD_HELP, VOID_HELP, comma_list, completing, end_run, verb
from samvideo.cli.models import WEIGHTS_HELP, image_segmenter
from samvideo.cli.searching import PROMPTER_HELP, choose_prompter, make_prompter
from samvideo.cli.track import split_prompts
from samvideo.cli.ui import BROWSER_HELP, HOST_HELP, PORT_HELP, run_page
from samvideo.cli.volumes import segment_in_volume
from samvideo.errors import ConfigError

if TYPE_CHECKING:
    from samvideo.segment_run import SegmentSettings

ALL = "overlay,masks,rle,csv"
MODEL_HELP = "auto, {segmenters} (no download), one of `samvideo models`, or NAME=FILE."
PROMPT_HELP = (
    "box=X1,Y1,X2,Y2 | points=X,Y/-X,Y/... (a leading minus: not on the object) | mask=FILE.png, for all images; "
    'or FILE.json, such as {"images": {"a.jpg": [{"box": [...]}]}}; each may end in #ID or #ID:LABEL. '
    "Repeatable. box, points or mask alone: annotate in the browser. Clicks in a volume end in @SLICE."
)


@verb
def segment(
    images: list[str] = typer.Argument(help="Images, folders of images, or globs; or one NIfTI volume."),
    prompt: list[str] = typer.Option([], "--prompt", "-p", help=PROMPT_HELP),
    model: str = typer.Option("auto", help=MODEL_HELP, autocompletion=completing("segmenters")),
    weights: Path | None = typer.Option(None, help=WEIGHTS_HELP),
    device: str = typer.Option("auto", help="auto, cpu, cuda or mps."),
    dtype: str = typer.Option("auto", help="auto, fp32, bf16 or fp16 (not on a CPU)."),
    out: Path | None = typer.Option(None, "-o", "--out", help="Folder for the results [NAME_segmented]."),
    save: str = typer.Option(ALL, help="Results to write: overlay, masks, rle, csv, coco."),
    everything: bool = typer.Option(False, "--everything", help="Find the objects, instead of --prompt."),
    prompter: str = typer.Option("auto", help=PROMPTER_HELP),
    max_objects: int = typer.Option(255, min=1, max=255, help="Of --everything, at most so many of each image."),
    multimask: bool = typer.Option(False, "--multimask", help="Also write every mask that the model proposes."),
    threshold: int | None = typer.Option(None, min=1, help=THRESHOLD_HELP),
    void: int | None = typer.Option(None, min=0, help=VOID_HELP),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the results of an earlier `segment` there."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress, no summary."),
    as_json: bool = typer.Option(False, "--json", help="Print one summary object on stdout."),
    browser: bool = typer.Option(True, "--browser/--no-browser", help=BROWSER_HELP),
    host: str = typer.Option("127.0.0.1", help=HOST_HELP),
    port: int | None = typer.Option(None, min=1, max=65535, help=PORT_HELP),
) -> None:
    """Segment the prompted objects of images and write masks, overlays and tables."""
    from samvideo.io.mask_pictures import MaskRule
    from samvideo.io.volumes import is_volume
    from samvideo.prompt_syntax import parse_image_prompts
    from samvideo.segment_run import SegmentSettings

    if everything and (prompt or multimask):
        raise ConfigError("--everything finds the objects itself: leave --prompt and --multimask out")
    tools, texts = ([], []) if everything else split_prompts(prompt, PROMPT_HELP)
    if any(is_volume(Path(image)) for image in images):
        if len(images) > 1 or tools or multimask or save != ALL or dtype not in ("auto", "fp32"):
            raise ConfigError("a volume is given alone, with coordinates, in fp32, without --save and --multimask")
        segment_in_volume(
            Path(images[0]).expanduser(), texts, model, weights, device, out, overwrite, quiet, as_json
        )
        return
    name, file = _choose(model, weights, quiet)
    settings = SegmentSettings(
        sources=tuple(images),
        model=name,
        options={"weights": str(file) if file else None, "device": device, "dtype": dtype},
        out=out,
        save=tuple(comma_list(save)),
        prompts=parse_image_prompts(texts, MaskRule(threshold, void)),
        prompt_texts=tuple(texts),
        multimask=multimask,
        overwrite=overwrite,
        prompter=choose_prompter(prompter, name) if everything else None,
        most=max_objects,
    )
    if tools:
        _run_page(settings, tools[0], quiet, as_json, browser, host, port)
    else:
        _run(settings, quiet, as_json)


def _choose(model: str, weights: Path | None, quiet: bool) -> tuple[str, Path | None]:
    """The name and weights of the segmenter; one line on stderr says what `auto` means."""
    from samvideo.segmenters.factory import find_segmenter
    from samvideo.weights.naming import split_name

    given, file = split_name(model, weights)
    name = find_segmenter(given, file).name
    if name != given and not quiet:
        typer.echo(f"model {name}; choose another with --model NAME (`samvideo models`)", err=True)
    return name, file


def _run(settings: "SegmentSettings", quiet: bool, as_json: bool) -> None:
    from samvideo.cli.progress import TrackProgress
    from samvideo.segment_run import run_segmentation

    summary, failure = run_segmentation(
        settings,
        lambda: image_segmenter(settings.model, quiet=quiet, **settings.options),
        lambda name, total: TrackProgress(name, total, quiet=quiet),
        None if settings.prompter is None else make_prompter(settings.prompter),
    )
    end_run(summary, failure, summary is None or summary.status == "interrupted", quiet=quiet, as_json=as_json)


def _run_page(
    settings: "SegmentSettings", tool: str, quiet: bool, as_json: bool, browser: bool, host: str, port: int | None
) -> None:
    from samvideo.trackers.stills import StillsTracker
    from samvideo.web.stills import stills_settings

    def make_tracker() -> StillsTracker:
        return StillsTracker(image_segmenter(settings.model, quiet=quiet, **settings.options))

    run_page(stills_settings(settings), tool, quiet, as_json, browser, host, port, make_tracker)
