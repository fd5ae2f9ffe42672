"""What the commands of training share."""

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import typer

from samvideo.errors import ConfigError, shown

TERMS = {"open": ("open",), "unstated": ("open", "unstated")}


def parse_data(text: str) -> tuple[str, ...]:
    """Parse --data; ConfigError for another value than `open` and `unstated`."""
    if text not in TERMS:
        raise ConfigError(f"--data is open or unstated, not {shown(text)}")
    return TERMS[text]


def parse_fold(text: str | None) -> tuple[int, int] | None:
    """Parse `1/3`; ConfigError for anything else than K/N with K from 1 to N."""
    if text is None:
        return None
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ConfigError(f"--fold takes K/N with K from 1 to N, such as 1/3, not {shown(text)}")
    return int(number), int(count)


def training_device(name: str) -> str:
    """Which device to train on, cpu or cuda; ConfigError if it is not there."""
    import torch

    from samvideo.torch_runtime import resolve_device

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise ConfigError(f"--device is auto, cpu or cuda, not {shown(name)}")
    return resolve_device(name, "fp32")[0].type


def log_to(out: Path, *, quiet: bool) -> Callable[[str], None]:
    """Write lines with the time since now into the log beside `out` and, unless `quiet`, on stderr."""
    began = time.monotonic()

    def log(line: str) -> None:
        line = f"{timedelta(seconds=int(time.monotonic() - began))} {line}"
        with out.with_suffix(".log").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        if not quiet:
            typer.echo(line, err=True)

    return log
