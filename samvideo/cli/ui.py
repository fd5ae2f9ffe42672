"""`samvideo ui`, and the page of `samvideo track --prompt box`: prompting in the browser."""

import os
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from samvideo.cli.common import comma_list, completing, end_run, verb
from samvideo.cli.demo_clip import write_demo
from samvideo.cli.models import (
    MODEL_HELP,
    RUNTIME_HELP,
    WEIGHTS_HELP,
    announce_choice,
    choose_model,
    ready_segmenter,
    ready_tracker,
    with_runtime,
)
from samvideo.cli.policies import POLICY_HELP, check_policy

if TYPE_CHECKING:
    from samvideo.run import RunSettings
    from samvideo.trackers.base import Tracker

TOOLS = ("box", "points", "mask")
BROWSER_HELP = "Open the page in a browser if there is one; its address is printed in any case."
HOST_HELP = "Address to serve the page at; 0.0.0.0 lets other machines connect."
PORT_HELP = "Port of the page [8765, or any free one]."


@verb
def ui(
    video: str | None = typer.Argument(None, help="Video file or folder of images; a demo clip when left out."),
    model: str = typer.Option("auto", help=MODEL_HELP, autocompletion=completing("trackers")),
    weights: Path | None = typer.Option(None, help=WEIGHTS_HELP),
    policy: str | None = typer.Option(None, help=POLICY_HELP),
    device: str = typer.Option("auto", help="auto, cpu, cuda or mps."),
    runtime: str = typer.Option("torch", help=RUNTIME_HELP),
    out: Path | None = typer.Option(None, "-o", "--out", help="Folder for the results [NAME_tracked]."),
    save: str | None = typer.Option(None, help="What to write: overlay, masks, rle, csv, a volume's labels [all]."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the results in an existing folder."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress, no summary."),
    browser: bool = typer.Option(True, "--browser/--no-browser", help=BROWSER_HELP),
    host: str = typer.Option("127.0.0.1", help=HOST_HELP),
    port: int | None = typer.Option(None, min=1, max=65535, help=PORT_HELP),
) -> None:
    """Open the page to mark, track and correct objects in a video."""
    from samvideo.outputs import default_kinds
    from samvideo.run import RunSettings

    policy = check_policy(policy)
    name, weights = choose_model(model, weights, device, quiet=quiet)
    options = {"weights": str(weights) if weights else None, "policy": policy, "device": device}
    with tempfile.TemporaryDirectory(prefix="samvideo-") as folder:
        if video is None:
            video = str(write_demo(Path(folder) / "demo.mp4"))
        settings = RunSettings(
            source=video,
            model=name,
            options=with_runtime(options, runtime),
            out=out,
            save=tuple(default_kinds(video) if save is None else comma_list(save)),
            overwrite=overwrite,
        )
        run_page(settings, "box", quiet, False, browser, host, port)


def run_page(
    settings: "RunSettings",
    tool: str,
    quiet: bool,
    as_json: bool,
    browser: bool,
    host: str,
    port: int | None,
    make_tracker: "Callable[[], Tracker] | None" = None,
) -> None:
    """Serve the page until the user has finished; exits as `samvideo track` does.

    `make_tracker` makes the tracker of images, in the place of that of the settings.
    """
    from samvideo.cli.progress import TrackProgress
    from samvideo.web.run import PageSettings, run_with_page

    button = "Track" if make_tracker is None else "Segment"
    with tempfile.TemporaryDirectory(prefix="samvideo-") as folder:
        end = run_with_page(
            settings,
            PageSettings(tool, host, port, _say),
            make_tracker or (lambda: ready_tracker(settings.model, quiet=quiet, **settings.options)),
            lambda: ready_segmenter(settings.model, settings.options),
            lambda name, total: TrackProgress(name, total, quiet=quiet),
            lambda address: _announce(address, host, browser, Path(folder), button),
        )
    end_run(end.summary, end.failure, end.cut_short, quiet=quiet, as_json=as_json)


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _announce(address: str, host: str, browser: bool, folder: Path, button: str) -> None:
    from samvideo.web.guard import is_local

    announce_choice()
    opened = browser and _open(address, folder)
    where = "opened in the browser" if opened else "open this address in a browser"
    _say(f"Mark the objects on the page ({where}), press {button}, then Finish; Ctrl-C ends it here:")
    _say(address)
    if not is_local(host):
        _say(
            f"warning: --host {host} lets other machines reach the page, unencrypted: anyone who knows the "
            "address and its token sees the video. Over SSH, a tunnel to 127.0.0.1 is safer"
        )
    elif os.environ.get("SSH_CONNECTION"):
        port = address.rsplit(":", 1)[1].split("/")[0]
        _say(f"from your own machine: ssh -L {port}:127.0.0.1:{port} THIS_MACHINE, then open it there")


def _open(address: str, folder: Path) -> bool:
    """Open a graphical browser if there is one; a text browser would occupy the terminal.

    Every user of this machine can read the arguments of a browser's process, so these name a private file in
    `folder` that leads to the address with its token.
    """
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform not in ("darwin", "win32") and not display:
        return False
    try:
        controller = webbrowser.get()
    except webbrowser.Error:
        return False
    if getattr(controller, "name", "") in ("www-browser", "links", "elinks", "lynx", "w3m"):
        return False
    file = folder / "open.html"
    file.touch(0o600)
    file.write_text(
        f'<!doctype html><meta http-equiv="refresh" content="0; url={address}"><title>samvideo</title>',
        encoding="utf-8",
    )
    threading.Thread(target=controller.open, args=(file.as_uri(),), daemon=True).start()
    return True
