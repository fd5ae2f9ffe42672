"""`samvideo serve`: many sessions at once over HTTP."""

import os
from functools import partial
from typing import TYPE_CHECKING

import typer

from samvideo.cli.common import comma_list, verb
from samvideo.cli.models import RUNTIME_HELP, ready_tracker, with_runtime
from samvideo.cli.pools import RAY_HELP, ray_address
from samvideo.cli.ui import HOST_HELP

if TYPE_CHECKING:
    from samvideo.serving.replicas import FrontServer
    from samvideo.serving.server import ApiServer

MODELS_HELP = "Models to serve, separated by commas, each NAME or NAME=FILE; sessions use the first by default."
TOKEN_HELP = "Whom to let in: who sends it as `Authorization: Bearer TOKEN`. Repeatable. [one is made and printed]"
LABEL_STUDIO_HELP = (
    "Serve this Label Studio too, at /label-studio; LABEL_STUDIO_API_KEY is its key, for the files of its tasks."
)
BATCH_HELP = "Most frames of different sessions to compute as one; 1: none. [8 on CUDA, else 1]"
REPLICAS_HELP = "Servers on the Ray cluster, which share the sessions [one for each of its GPUs, or else cores]."
IDLE_HELP = "Close a session without requests after so long."


@verb
def serve(
    models: str = typer.Option("nano", help=MODELS_HELP),
    device: str = typer.Option("auto", help="auto, cpu, cuda or mps."),
    dtype: str = typer.Option("auto", help="auto, fp32, bf16 or fp16 (not on a CPU)."),
    runtime: str = typer.Option("torch", help=RUNTIME_HELP),
    host: str = typer.Option("127.0.0.1", help=HOST_HELP),
    port: int = typer.Option(8766, min=0, max=65535, help="0: any free one."),
    token: list[str] = typer.Option([], envvar="SAMVIDEO_TOKENS", help=TOKEN_HELP),
    batch: int | None = typer.Option(None, min=1, help=BATCH_HELP),
    label_studio: str | None = typer.Option(None, metavar="URL", help=LABEL_STUDIO_HELP),
    max_sessions: int = typer.Option(64, min=1, help="Open at a time."),
    max_objects: int = typer.Option(32, min=1, help="Tracked in one session."),
    max_upload: int = typer.Option(1024, min=1, metavar="MB", help="Size of a video."),
    max_pixels: int = typer.Option(3840 * 2160, min=1, help="Of a frame."),
    ray: str | None = typer.Option(None, "--ray", metavar="[ADDRESS]", help=RAY_HELP),
    replicas: int | None = typer.Option(None, min=1, help=REPLICAS_HELP),
    idle: float = typer.Option(600.0, min=1, metavar="SECONDS", help=IDLE_HELP),
) -> None:
    """Serve models over HTTP: sessions that track streams and uploaded videos."""
    from samvideo.errors import ConfigError
    from samvideo.serving.limits import Limits

    try:
        from samvideo.serving.replicas import ReplicaSettings, serve_replicas
        from samvideo.serving.server import ServerSettings
        from samvideo.serving.server import serve as serve_models
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is not installed: pip install 'samvideo[serve]'") from error

    if replicas is not None and ray is None:
        raise ConfigError("--replicas are servers on a Ray cluster: give --ray too, or leave --replicas out")
    options = with_runtime({"device": device, "dtype": dtype}, runtime)
    named = {text.partition("=")[0]: text for text in comma_list(models)}
    if len(named) < len(comma_list(models)):
        raise ConfigError(f"--models {models} names a model twice: leave one out")
    limits = Limits(
        sessions=max_sessions,
        objects=max_objects,
        upload_bytes=max_upload << 20,
        pixels=max_pixels,
        idle_seconds=idle,
    )
    settings = ServerSettings(host, port, token, limits, batch, _with_key(label_studio))
    quiet = ray is not None  # nobody would see a progress bar of another machine
    makers = {name: partial(ready_tracker, text, quiet=quiet, **options) for name, text in named.items()}
    announce = partial(_announce, host=host, made=not token)
    if ray is None:
        serve_models(makers, settings, announce)
    else:
        serve_replicas(makers, settings, ReplicaSettings(ray_address(ray), replicas), announce)


def _with_key(label_studio: str | None) -> tuple[str, str] | None:
    return None if label_studio is None else (label_studio, os.environ.get("LABEL_STUDIO_API_KEY", ""))


def _announce(server: "ApiServer | FrontServer", host: str, made: bool) -> None:
    from samvideo.web.guard import is_local

    typer.echo(f"serving at {server.address}, described at {server.address}/openapi.json; Ctrl-C ends it", err=True)
    if made:
        typer.echo(f"token: {server.tokens[0]}", err=True)
    if not is_local(host):
        typer.echo("other machines can connect, without encryption: put a proxy with TLS in front", err=True)
