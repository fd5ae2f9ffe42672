"""`samvideo segment`: segment prompted objects of images."""

from pathlib import Path

import typer

from samvideo.cli.common import THRESHOLD_HELP, VOID_HELP, comma_list, completing, end_run, verb
from samvideo.cli.models import MODEL_HELP, choose_model, ready_segmenter
from samvideo.cli.track import split_prompts
from samvideo.cli.ui import BROWSER_HELP, HOST_HELP, PORT_HELP, run_stills_page

PROMPT_HELP = (
    "box=X1,Y1,X2,Y2 | points=X,Y/-X,Y/... (a leading minus: not on the object) | mask=FILE.png, for all images; "
    'or FILE.json, such as {"images": {"a.jpg": [{"box": [...]}]}}; each may end in #ID. Repeatable. box, points '
    "or mask alone: annotate in the browser."
)


@verb
def segment(
    images: list[str] = typer.Argument(help="Images, folders of images, or globs."),
    prompt: list[str] = typer.Option([], "--prompt", "-p", help=PROMPT_HELP),
    model: str = typer.Option("auto", help=MODEL_HELP, autocompletion=completing("trackers")),
    weights: Path | None = typer.Option(None, help="Read the model from this file (.pt, .pth, .safetensors)."),
    device: str = typer.Option("auto", help="auto, cpu, cuda or mps."),
    dtype: str = typer.Option("auto", help="auto, fp32, bf16 or fp16 (not on a CPU)."),
    out: Path | None = typer.Option(None, "-o", "--out", help="Folder for the results [NAME_segmented]."),
    save: str = typer.Option("overlay,masks,rle,csv", help="Results to write: overlay, masks, rle, csv."),
    multimask: bool = typer.Option(False, "--multimask", help="Also write every mask that the model proposes."),
    threshold: int | None = typer.Option(None, min=1, help=THRESHOLD_HELP),
    void: int | None = typer.Option(None, min=0, help=VOID_HELP),
    overwrite: bool = typer.Option(
        False, "--overwrite", help="Replace earlier results of `segment` in the folder."
    ),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress, no summary."),
    as_json: bool = typer.Option(False, "--json", help="Print one summary object on stdout."),
    browser: bool = typer.Option(True, "--browser/--no-browser", help=BROWSER_HELP),
    host: str = typer.Option("127.0.0.1", help=HOST_HELP),
    port: int | None = typer.Option(None, min=1, max=65535, help=PORT_HELP),
) -> None:
    """Segment the prompted objects of images and write masks, overlays and tables."""
    from samvideo.cli.progress import TrackProgress
    from samvideo.io.mask_pictures import MaskRule
    from samvideo.prompt_syntax import parse_image_prompts
    from samvideo.segment_run import SegmentSettings, run_segmentation

    tools, texts = split_prompts(prompt, PROMPT_HELP)
    settings = SegmentSettings(
        sources=tuple(images),
        model=choose_model(model, weights, device, quiet=quiet),
        options={"weights": str(weights) if weights else None, "device": device, "dtype": dtype},
        out=out,
        save=tuple(comma_list(save)),
        prompts=parse_image_prompts(texts, MaskRule(threshold, void)),
        prompt_texts=tuple(texts),
        multimask=multimask,
        overwrite=overwrite,
    )
    if tools:
        run_stills_page(settings, tools[0], quiet, as_json, browser, host, port)
        return
    summary, failure = run_segmentation(
        settings,
        lambda: ready_segmenter(settings.model, settings.options, quiet=quiet),
        lambda name, total: TrackProgress(name, total, quiet=quiet),
    )
    end_run(summary, failure, summary is None or summary.status == "interrupted", quiet=quiet, as_json=as_json)
