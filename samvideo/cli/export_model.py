"""`samvideo export-model`: a model as graphs for other runtimes."""

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from samvideo.cli.common import verb
from samvideo.cli.models import WEIGHTS_HELP
from samvideo.cli.policies import POLICY_HELP, check_policy
from samvideo.cli.weights import download_progress
from samvideo.errors import ConfigError

if TYPE_CHECKING:
    from samvideo.deploy.calibration import Tracking
    from samvideo.runtime import Runtime

FORMATS = ("onnx", "openvino")
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
PRECISION_HELP = (
    f"{', '.join(PRECISIONS)}: of encoder and memory attention. fp16 is for GPUs; bf16 for OpenVINO, TensorRT and "
    "Arm CPUs; int8 without --calibrate leaves convolutions in float32, and nano needs it."
)
CALIBRATE_HELP = (
    "A video or folder of frames: int8 then has ranges fixed by tracking the middle of its first ones. Repeatable."
)
CALIBRATION_FRAMES = 12
"""Enough to fill a memory; all that the graphs are given for them is held."""


@verb
def export_model(
    model: str | None = typer.Argument(None, help="A published model, or NAME=FILE [what --weights holds]."),
    weights: Path | None = typer.Option(None, help=WEIGHTS_HELP),
    out: Path = typer.Option(..., "-o", "--out", metavar="DIR", help="Folder to write."),
    to: str = typer.Option("onnx", help=f"Format of the graphs: {', '.join(FORMATS)}."),
    precision: str = typer.Option("fp32", help=PRECISION_HELP),
    calibrate: list[str] = typer.Option([], metavar="VIDEO", help=CALIBRATE_HELP),
    policy: str | None = typer.Option(None, help=POLICY_HELP),
    size: int | None = typer.Option(None, min=64, help="Side of the input in pixels [the model's own]."),
    objects: int | None = typer.Option(None, min=1, help="Graphs take exactly so many objects at a time [any]."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an earlier export."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress."),
) -> None:
    """Export a model, to track or, with ONNX Runtime, segment by `--runtime NAME --weights DIR`, or elsewhere."""
    if to not in FORMATS:
        raise ConfigError(f"no format of graphs is called {to!r}: {', '.join(FORMATS)} expected")
    if precision not in PRECISIONS:
        raise ConfigError(f"no precision is called {precision!r}: {', '.join(PRECISIONS)} expected")
    if model is None and weights is None:
        raise ConfigError("name a model, such as edgetam, or give --weights FILE")
    policy = check_policy(policy)
    from samvideo.io.files import check_empty, check_writable

    check_empty(out, overwrite, "export")
    check_writable(out)
    from samvideo.checkpoints import load_any
    from samvideo.deploy.bundle import export_model as write
    from samvideo.image_model import ImageModel

    with download_progress((model or "").partition("=")[0], quiet=quiet) as progress:
        loaded = load_any(model, weights=weights, policy=policy, input_size=size, progress=progress.advance)
    if not isinstance(loaded, ImageModel):
        raise ConfigError(f"{loaded.name} cannot be exported: models with an encoder and the heads of SAM can")
    tracking = _first_frames(calibrate) if calibrate else None
    report = (lambda _: None) if quiet else (lambda name: typer.echo(name, err=True))
    formats: Any = {"to": to, "precision": precision}
    write(loaded, out, **formats, calibrate=tracking, objects=objects, progress=report)
    if not quiet:
        typer.echo(f"written to {out}", err=True)


def _first_frames(sources: list[str]) -> "Tracking":
    """Tracks the first frames; they are read before the export, which takes longer to fail."""
    from samvideo.io.source import open_video
    from samvideo.trackers.calibration import track_middle

    clips = []
    for source in sources:
        with open_video(source) as video:
            clips.append(list(islice(video, CALIBRATION_FRAMES)))

    def track(runtime: "Runtime") -> None:
        for frames in clips:
            track_middle(runtime, frames)

    return track
