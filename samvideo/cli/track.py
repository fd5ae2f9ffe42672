"""`samvideo track`: segment and track prompted objects through a video."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from samvideo.cli.common import MOMENT_HELP, THRESHOLD_HELP, VOID_HELP, comma_list, end_run, parse_moment, verb
from samvideo.cli.models import MODEL_HELP, choose_model, ready_tracker
from samvideo.cli.ui import BROWSER_HELP, HOST_HELP, PORT_HELP, TOOLS, run_page
from samvideo.errors import ConfigError

if TYPE_CHECKING:
    from samvideo.run import RunSettings
    from samvideo.types import Prompt

PROMPT_HELP = (
    "box=X1,Y1,X2,Y2 | points=X,Y/-X,Y/... (a leading minus: not on the object) | mask=FILE.png | FILE.json; "
    "each may end in @FRAME or @12.5s and #ID. Repeatable. box, points or mask alone: annotate in the browser."
)
SOURCE_HELP = "Video file, folder or glob of images, camera index (0), RTSP or HTTP address, or - for stdin."


@verb
def track(
    source: str = typer.Argument(help=SOURCE_HELP),
    prompt: list[str] = typer.Option([], "--prompt", "-p", help=PROMPT_HELP),
    model: str = typer.Option("auto", help=MODEL_HELP),
    weights: Path | None = typer.Option(None, help="Read the model from this file (.pt, .pth, .safetensors)."),
    memory: str | None = typer.Option(None, help="Another memory method, see `samvideo models`."),
    policy: str | None = typer.Option(None, help="Another memory policy, see `samvideo models`."),
    device: str = typer.Option("auto", help="auto, cpu, cuda or mps."),
    dtype: str = typer.Option("auto", help="auto, fp32, bf16 or fp16 (not on a CPU)."),
    direction: str = typer.Option("forward", help="Seen from the prompts: forward, backward or both."),
    out: Path | None = typer.Option(None, "-o", "--out", help="Folder for the results [NAME_tracked]."),
    save: str = typer.Option("overlay,masks,rle,csv", help="Results to write: overlay, masks, rle, csv."),
    start: str | None = typer.Option(None, metavar="T", help=f"First frame: {MOMENT_HELP}."),
    end: str | None = typer.Option(None, metavar="T", help="Frame or time to stop before; like --start."),
    threshold: int | None = typer.Option(None, min=1, help=THRESHOLD_HELP),
    void: int | None = typer.Option(None, min=0, help=VOID_HELP),
    stride: int = typer.Option(1, min=1, help="Track every n-th frame only."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the results in an existing folder."),
    strip_source: bool = typer.Option(False, "--strip-source", help="Omit source name, times and audio."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress, no summary."),
    as_json: bool = typer.Option(False, "--json", help="Print one summary object on stdout."),
    browser: bool = typer.Option(True, "--browser/--no-browser", help=BROWSER_HELP),
    host: str = typer.Option("127.0.0.1", help=HOST_HELP),
    port: int | None = typer.Option(None, min=1, max=65535, help=PORT_HELP),
) -> None:
    """Track the prompted objects and write an overlay video, masks and tables."""
    from samvideo.run import RunSettings
    from samvideo.trackers.direction import check_direction

    tools, texts = _split_prompts(prompt)
    file = str(weights) if weights else None
    settings = RunSettings(
        source=source,
        prompts=_parse(texts, threshold, void),
        prompt_texts=tuple(texts),
        model=choose_model(model, weights, device, quiet=quiet),
        options={"weights": file, "memory": memory, "policy": policy, "device": device, "dtype": dtype},
        direction=check_direction(direction),
        out=out,
        save=tuple(comma_list(save)),
        start=parse_moment(start),
        end=parse_moment(end),
        stride=stride,
        overwrite=overwrite,
        strip_source=strip_source,
    )
    if tools:
        run_page(settings, tools[0], quiet, as_json, browser, host, port)
    else:
        _run(settings, quiet, as_json)


def _parse(texts: list[str], threshold: int | None, void: int | None) -> "tuple[Prompt, ...]":
    from samvideo.io.mask_pictures import MaskRule
    from samvideo.prompt_syntax import parse_prompts

    return tuple(parse_prompts(texts, MaskRule(threshold, void)))


def _run(settings: "RunSettings", quiet: bool, as_json: bool) -> None:
    from samvideo.cli.progress import TrackProgress
    from samvideo.runner import run_tracking

    summary, failure = run_tracking(
        settings,
        lambda: ready_tracker(settings.model, quiet=quiet, **settings.options),
        lambda name, total: TrackProgress(name, total, quiet=quiet),
    )
    end_run(summary, failure, summary.status == "interrupted", quiet=quiet, as_json=as_json)


def _split_prompts(prompts: list[str]) -> tuple[list[str], list[str]]:
    """Split prompts into those without coordinates, which the page collects, and those with them."""
    if not prompts:
        raise ConfigError(
            "nothing to track: give --prompt box to draw it in the browser, or for instance "
            f"--prompt box=40,60,200,220\n{PROMPT_HELP}"
        )
    return [text for text in prompts if text in TOOLS], [text for text in prompts if text not in TOOLS]
