"""What the commands share: help, completion, errors as exit codes, logging."""

import errno
import functools
import json
import logging
import sys
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import typer
from typer.core import TyperCommand

from samvideo.errors import ConfigError, OutputError, SamVideoError, shown

if TYPE_CHECKING:
    from samvideo.run_base import RunSummary

P = ParamSpec("P")
R = TypeVar("R")

INTERRUPTED = 130
FIRST_HELP = "Number in the video of the first frame tracked, where the run does not know it (--strip-source)."
THRESHOLD_HELP = "Masks are one object: the pixels of at least this value, 128 for half of 255."
VOID_HELP = "The value in masks that marks no object [255 beside others]; 0: every value marks an object."

_REGISTRIES = {
    "trackers": ("samvideo.trackers.specs", "TRACKERS"),
    "segmenters": ("samvideo.segmenters.specs", "SEGMENTERS"),
    "datasets": ("samvideo.evaluation.datasets", "DATASETS"),
    "formats": ("samvideo.exports", "FORMATS"),
}


class Command(TyperCommand):
    """Fills lists of components into help texts, such as `{datasets}`, only when the help is shown."""

    def get_help(self, ctx: Any) -> str:
        """The help of a command."""
        for parameter in self.params:
            text = getattr(parameter, "help", None) or ""
            for key in _REGISTRIES:
                if f"{{{key}}}" in text:
                    text = text.replace(f"{{{key}}}", ", ".join(_names(key)))
                    parameter.help = text  # type: ignore[attr-defined]
        return super().get_help(ctx)


def _all(key: str) -> dict[str, Any]:
    module, attribute = _REGISTRIES[key]
    found: dict[str, Any] = getattr(import_module(module), attribute).all()
    return found


def _names(key: str) -> list[str]:
    # published models are many, and listed by `samvideo models`
    return [name for name, spec in _all(key).items() if not getattr(spec, "needs_weights", False)]


def completing(key: str) -> Callable[[str], list[str]]:
    """Return the shell completion of the names of components, such as `trackers`."""

    def names(incomplete: str) -> list[str]:
        return [name for name in _all(key) if name.startswith(incomplete)]

    return names


def verb(function: Callable[P, R]) -> Callable[P, R]:
    """Turn a SamVideoError or OSError into one line on stderr and its exit code, and Ctrl-C into 130."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
        try:
            return function(*args, **kwargs)
        except SamVideoError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(error.exit_code) from None
        except OSError as error:  # of a path that the system refuses, wherever it is first looked at
            place = str(error.filename or "input or output")[:200]
            typer.echo(f"error: {place}: {error.strerror or error}", err=True)
            given = error.errno in (errno.ENAMETOOLONG, errno.ELOOP)
            raise typer.Exit(ConfigError.exit_code if given else OutputError.exit_code) from None
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None

    return run


def comma_list(text: str | None) -> list[str]:
    """Split `cpu, cuda` at commas; an empty list for None."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def numbers(text: str | None, option: str) -> list[int]:
    """Parse `1,2`, or nothing at all; ConfigError for anything else than numbers from 1."""
    if (text and not comma_list(text)) or not all(is_object_id(part) for part in comma_list(text)):
        raise ConfigError(f"{option} takes numbers from 1, separated by commas, not {shown(text)}")
    return [int(part) for part in comma_list(text)]


def parse_window(text: str | None) -> tuple[float, float] | None:
    """Parse `-160,240`; ConfigError for anything else than two numbers."""
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(
            f"--window takes a low and a high intensity, such as -160,240, not {shown(text)}"
        ) from None
    return low, high


def is_object_id(text: str) -> bool:
    """Whether a text is the number of an object, from 1."""
    return text.isdecimal() and len(text) <= 10 and int(text) > 0


def end_run(
    summary: "RunSummary | None", failure: SamVideoError | None, interrupted: bool, *, quiet: bool, as_json: bool
) -> None:
    """Print the summary: one JSON object on stdout, or some lines on stderr, or nothing if `quiet`.

    Raise the failure, or Exit if the run was interrupted.
    """
    if summary is None:
        if not quiet:
            typer.echo("nothing was written", err=True)
    elif as_json:
        typer.echo(json.dumps(summary.to_json()))
    elif not quiet:
        typer.echo(f"{summary.status}: {summary.amount}", err=True)
        for kind, path in summary.files.items():
            typer.echo(f"  {kind:8} {path}", err=True)
    if failure is not None:
        raise failure
    if interrupted:
        raise typer.Exit(INTERRUPTED)
