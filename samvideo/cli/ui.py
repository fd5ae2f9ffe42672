"""`samvideo ui`, and the page of `samvideo track --prompt box`: prompting in the browser."""

import os
import sys
import tempfile
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from samvideo.cli.common import comma_list, completing, end_run, verb
from samvideo.cli.demo_clip import write_demo
from samvideo.cli.models import MODEL_HELP, choose_model, ready_segmenter, ready_tracker

if TYPE_CHECKING:
    from samvideo.run import RunSettings

TOOLS = ("box", "points", "mask")
BROWSER_HELP = "Open the page in a browser if there is one; its address is printed in any case."
HOST_HELP = "Address to serve the page at; 0.0.0.0 lets other machines connect."
PORT_HELP = "Port of the page [8765, or any free one]."


@verb
def ui(
    video: str | None = typer.Argument(None, help="Video file or folder of images; a demo clip when left out."),
    model: str = typer.Option("auto", help=MODEL_HELP, autocompletion=completing("trackers")),
    weights: Path | None = typer.Option(None, help="Read the model from this file (.pt, .pth, .safetensors)."),
    device: str = typer.Option("auto", help="auto, cpu, cuda or mps."),
    out: Path | None = typer.Option(None, "-o", "--out", help="Folder for the results [NAME_tracked]."),
    save: str = typer.Option("overlay,masks,rle,csv", help="What to write, of overlay, masks, rle, csv."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the results in an existing folder."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress, no summary."),
    browser: bool = typer.Option(True, "--browser/--no-browser", help=BROWSER_HELP),
    host: str = typer.Option("127.0.0.1", help=HOST_HELP),
    port: int | None = typer.Option(None, min=1, max=65535, help=PORT_HELP),
) -> None:
    """Open the page to mark, track and correct objects in a video."""
    from samvideo.run import RunSettings

    with tempfile.TemporaryDirectory(prefix="samvideo-") as folder:
        if video is None:
            video = str(write_demo(Path(folder) / "demo.mp4"))
        settings = RunSettings(
            source=video,
            model=choose_model(model, weights, device, quiet=quiet),
            options={"weights": str(weights) if weights else None, "device": device},
            out=out,
            save=tuple(comma_list(save)),
            overwrite=overwrite,
        )
        run_page(settings, "box", quiet, False, browser, host, port)


def run_page(
    settings: "RunSettings", tool: str, quiet: bool, as_json: bool, browser: bool, host: str, port: int | None
) -> None:
    """Serve the page until the user has finished; exits as `samvideo track` does."""
    from samvideo.cli.progress import TrackProgress
    from samvideo.web.run import PageSettings, run_with_page

    end = run_with_page(
        settings,
        PageSettings(tool, host, port, lambda address: _announce(address, host, browser)),
        lambda: ready_tracker(settings.model, quiet=quiet, **settings.options),
        lambda: ready_segmenter(settings.model, settings.options),
        lambda name, total: TrackProgress(name, total, quiet=quiet),
    )
    end_run(end.summary, end.failure, end.cut_short, quiet=quiet, as_json=as_json)


def _announce(address: str, host: str, browser: bool) -> None:
    from samvideo.web.guard import is_local

    opened = browser and _open(address)
    where = "opened in the browser" if opened else "open this address in a browser"
    typer.echo(f"Mark the objects on the page ({where}), press Track, then Finish; Ctrl-C ends it here:", err=True)
    typer.echo(address, err=True)
    if not is_local(host):
        typer.echo(
            f"warning: --host {host} lets other machines reach the page, unencrypted: anyone who knows the "
            "address and its token sees the video. Over SSH, a tunnel to 127.0.0.1 is safer",
            err=True,
        )
    elif os.environ.get("SSH_CONNECTION"):
        port = address.rsplit(":", 1)[1].split("/")[0]
        typer.echo(
            f"from your own machine: ssh -L {port}:127.0.0.1:{port} THIS_MACHINE, then open it there", err=True
        )


def _open(address: str) -> bool:
    """Open a graphical browser if there is one; a text browser would occupy the terminal."""
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform not in ("darwin", "win32") and not display:
        return False
    try:
        controller = webbrowser.get()
    except webbrowser.Error:
        return False
    if getattr(controller, "name", "") in ("www-browser", "links", "elinks", "lynx", "w3m"):
        return False
    threading.Thread(target=controller.open, args=(address,), daemon=True).start()
    return True
