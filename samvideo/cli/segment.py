"""`samvideo segment`: segment prompted objects of images, or of a volume."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from samvideo.cli.common import THRESHOLD_HELP, VOID_HELP, comma_list, completing, end_run, verb
from samvideo.cli.models import WEIGHTS_HELP, image_segmenter, with_runtime
from samvideo.cli.searching import DETECTOR_HELP, PROMPTER_HELP, choose_search, make_prompter, split_prompts
from samvideo.cli.ui import BROWSER_HELP, HOST_HELP, PORT_HELP, run_page
from samvideo.cli.volumes import segment_in_volume
from samvideo.errors import ConfigError
from samvideo.search_settings import split_searches

if TYPE_CHECKING:
    from samvideo.segment_run import SegmentSettings

ALL = "overlay,masks,rle,csv"
MODEL_HELP = "auto, {segmenters} (no download), one of `samvideo models`, or NAME=FILE."
RUNTIME_HELP = "torch, or onnx, with the folder of `samvideo export-model` as --weights."
PROMPT_HELP = (
    "box=X1,Y1,X2,Y2 | points=X,Y/-X,Y/... (a leading minus: not on the object) | mask=FILE.png, for all images; "
    'or FILE.json, such as {"images": {"a.jpg": [{"box": [...]}]}}; each may end in #ID or #ID:LABEL. '
    "Repeatable. box, points or mask alone: annotate in the browser. Clicks in a volume end in @SLICE. everything, "
    "or text='person; ball': find the objects."
)


@verb
def segment(
    images: list[str] = typer.Argument(help="Images, folders of images, or globs; or one NIfTI volume."),
    prompt: list[str] = typer.Option([], "--prompt", "-p", help=PROMPT_HELP),
    model: str = typer.Option("auto", help=MODEL_HELP, autocompletion=completing("segmenters")),
    weights: Path | None = typer.Option(None, help=WEIGHTS_HELP),
    device: str = typer.Option("auto", help="auto, cpu, cuda or mps."),
    dtype: str = typer.Option("auto", help="auto, fp32, bf16 or fp16 (not on a CPU)."),
    runtime: str = typer.Option("torch", help=RUNTIME_HELP),
    out: Path | None = typer.Option(None, "-o", "--out", help="Folder for the results [NAME_segmented]."),
    save: str = typer.Option(ALL, help="Results to write: overlay, masks, rle, csv, coco."),
    everything: bool = typer.Option(False, "--everything", help="Find the objects: short for --prompt everything."),
    prompter: str = typer.Option("auto", help=PROMPTER_HELP),
    detector: str | None = typer.Option(None, help=DETECTOR_HELP),
    max_objects: int = typer.Option(255, min=1, max=255, help="Of a search, at most so many of each image."),
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
    searches, wanted = _searches([*["everything"] * everything, *prompt], multimask)
    tools, texts = ([], []) if searches else split_prompts(prompt, PROMPT_HELP)
    plain = not (searches or tools or multimask) and save == ALL and dtype in ("auto", "fp32")
    if volume := _volume(images, plain):
        segment_in_volume(volume, texts, model, weights, device, out, overwrite, quiet, as_json)
        return
    name, file = _choose(model, weights, quiet)
    settings = _settings(
        texts,
        (threshold, void),
        sources=tuple(images),
        model=name,
        options=with_runtime({"weights": str(file) if file else None, "device": device, "dtype": dtype}, runtime),
        out=out,
        save=tuple(comma_list(save)),
        multimask=multimask,
        overwrite=overwrite,
        search=choose_search(name, prompter, wanted, detector, max_objects) if searches else None,
        labelled=searches,
    )
    if tools:
        _run_page(settings, tools[0], quiet, as_json, browser, host, port)
    else:
        _run(settings, quiet, as_json)


def _searches(prompts: list[str], multimask: bool) -> tuple[bool, tuple[str, ...] | None]:
    """Whether prompts search, and the names that they search for; ConfigError if others are given beside them."""
    searches, wanted, others = split_searches(prompts)
    if searches and (others or multimask):
        raise ConfigError("a search finds the objects itself: leave other prompts and --multimask out")
    return searches, wanted


def _volume(images: list[str], plain: bool) -> Path | None:
    """Return the volume to be segmented, if it is one; ConfigError unless it is alone and options `plain`."""
    from samvideo.io.volumes import is_volume

    if not any(is_volume(Path(image)) for image in images):
        return None
    if len(images) > 1 or not plain:
        raise ConfigError("a volume is given alone, with coordinates, in fp32, without --save and --multimask")
    return Path(images[0]).expanduser()


def _settings(texts: list[str], masks: tuple[int | None, int | None], **others: Any) -> "SegmentSettings":
    """Make the settings; `others` are taken as they are."""
    from samvideo.io.mask_pictures import MaskRule
    from samvideo.prompt_syntax import parse_image_prompts
    from samvideo.segment_run import SegmentSettings

    prompts = parse_image_prompts(texts, MaskRule(*masks))
    return SegmentSettings(prompts=prompts, prompt_texts=tuple(texts), **others)


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
        None if settings.search is None else make_prompter(settings.search),
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
