"""What a training writes: weights, and beside them the record of what they are of, so that it can be resumed."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from samvideo.errors import ConfigError, shown
from samvideo.io.files import check_writable, write_atomically
from samvideo.io.locks import folder_lock

LISTED = 5
"""Entries of two recipes that are named where they differ."""


def record_file(output: Path) -> Path:
    """Where it is written what an output is of."""
    return output.with_suffix(".recipe.json")


def check_output(output: Path, record: str) -> None:
    """Raise ConfigError unless `output` is new or of the same recipe, OutputError if it cannot be written."""
    if output.suffix != ".safetensors":
        raise ConfigError(f"{str(output)!r} is not a valid weights file: a name ending in .safetensors expected")
    claim = record_file(output)
    if claim.exists() and (before := claim.read_text(encoding="utf-8")) != record:
        raise ConfigError(
            f"{claim} is of another recipe{_differences(before, record)}: give the same options to resume it, or "
            "another -o"
        )
    if output.exists() and not claim.exists():
        raise ConfigError(f"{output} exists, and is not of an earlier training: choose another path with -o")
    check_writable(output.parent)


def _differences(before: str, now: str) -> str:
    """The first entries in which two records differ: `, whose fit.steps is 400, now 800`."""
    try:
        old, new = (dict(_entries(json.loads(text))) for text in (before, now))
    except ValueError:
        return ", or damaged"
    missing = "missing"
    changed = [
        f"{name} is {shown(old.get(name, missing))}, now {shown(new.get(name, missing))}"
        for name in old | new
        if old.get(name, missing) != new.get(name, missing)
    ]
    return f", whose {'; '.join(changed[:LISTED])}" if changed else ""


def _entries(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """The values of a JSON document by their path, such as `fit.steps`."""
    if not isinstance(value, dict):
        yield name, value
        return
    for key, inner in value.items():
        yield from _entries(inner, f"{name}.{key}" if name else key)


@contextmanager
def claimed(output: Path, record: str) -> Iterator[None]:
    """Hold the lock of the folder of `output`, and write what it is of; raises as `check_output` and `folder_lock`.

    Another process may have begun or ended a training since an earlier `check_output`, so it is called again.
    """
    with folder_lock(output.parent):
        check_output(output, record)
        write_atomically(record_file(output), record)
        yield


def write(file: Path, state: Mapping[str, Tensor], record: str) -> None:
    """Write weights in float16, the statistics of batch norms in float32, and what they are of as metadata."""
    kept = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    values = {
        key: value.cpu().contiguous() if "running" in key else value.cpu().half().contiguous()
        for key, value in kept.items()
    }
    write_atomically(file, save(values, {"recipe": record}))  # the order of several entries is random


def sha256(path: Path) -> str:
    """The digest of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()
