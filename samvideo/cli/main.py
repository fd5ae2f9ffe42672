"""`samvideo`: all commands."""

import signal
import sys
from typing import Any

import typer

from samvideo.cli.analyze import analyze
from samvideo.cli.bench import bench
from samvideo.cli.common import Command
from samvideo.cli.console import replace_streams
from samvideo.cli.demo_clip import demo_clip
from samvideo.cli.distill import distill
from samvideo.cli.evaluate import evaluate
from samvideo.cli.export import export
from samvideo.cli.export_model import export_model
from samvideo.cli.finetune import finetune
from samvideo.cli.info import info
from samvideo.cli.models import models
from samvideo.cli.new import new
from samvideo.cli.pools import RayCommand
from samvideo.cli.prune import prune
from samvideo.cli.quantize import quantize
from samvideo.cli.redact import redact
from samvideo.cli.report import report
from samvideo.cli.score import score
from samvideo.cli.search import search
from samvideo.cli.segment import segment
from samvideo.cli.serve import serve
from samvideo.cli.track import track
from samvideo.cli.train import train
from samvideo.cli.ui import ui
from samvideo.cli.weights import weights
from samvideo.errors import OutputError
from samvideo.interrupt import SIGNALS

EPILOG = (
    "Exit codes: 0 done, 2 usage or prompt, 3 source, 4 weights, 5 tracking or writing failed, 130 interrupted "
    "(what was written until then is complete)."
)

app = typer.Typer(
    name="samvideo",
    help="Segment and track objects in video, with the efficient SAM 2 family or with a small bundled model.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from samvideo import __version__

        typer.echo(f"samvideo {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print it and exit."),
) -> None:
    pass


USE = (track, segment, ui, serve, analyze, export, redact, info, models, demo_clip, score, report, bench, new)
TRAIN = (quantize, prune, search, finetune, distill)
ON_RAY = (track, serve, evaluate)

for verb in (*USE, *TRAIN, evaluate):
    app.command(epilog=EPILOG, cls=RayCommand if verb in ON_RAY else Command)(verb)
app.command("export-model", epilog=EPILOG, cls=Command)(export_model)
app.add_typer(weights, name="weights")
app.add_typer(train, name="train")


def main() -> None:
    """The console script."""
    for number in SIGNALS:
        if signal.getsignal(number) == signal.SIG_DFL:  # SIGTERM and SIGHUP end every command as Ctrl-C does
            signal.signal(number, signal.default_int_handler)
    out = replace_streams()
    code: Any = 0
    try:
        app()
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    if out and out.failure:
        if not isinstance(out.failure, BrokenPipeError):  # the reader closed the pipe on purpose
            typer.echo(f"error: standard output cannot be written: {out.failure.strerror}", err=True)
        code = code or OutputError.exit_code
    raise SystemExit(code)
