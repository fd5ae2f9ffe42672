"""Models that are exported by themselves, once, and kept beside the downloaded weights."""

import hashlib
import json
import logging
import shutil
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from filelock import FileLock

from samvideo.deploy.manifest import file_of
from samvideo.deploy.runtimes import open_exported
from samvideo.errors import OutputError, WeightsError
from samvideo.specs import BUNDLED, BUNDLED_FOLDER
from samvideo.weights.catalog import checkpoint
from samvideo.weights.fetch import fetch, weights_folder
from samvideo.weights.naming import is_random, weight_files
from samvideo.weights.transfer import Progress

if TYPE_CHECKING:
    from samvideo.deploy.graph_runtime import GraphRuntime

log = logging.getLogger(__name__)


def exports_folder() -> Path:
    """Where exported models are kept: beside `samvideo.weights.fetch.weights_folder`."""
    return weights_folder().with_name("exports")


def open_cached(
    runtime: str,
    name: str | None,
    *,
    weights: Path | None = None,
    memory: str | None = None,
    policy: str | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> "GraphRuntime":
    """Open the export of a model, which is made first if there is none of these weights, or a damaged one.

    PyTorch is imported only to make it. Processes that need the same export wait for each other.

    Args:
        runtime: what computes, see `RUNTIMES`.
        name: of the model; None for the one that the weights fit.
        weights, memory, policy, progress: see `samvideo.checkpoints.load`.
        device: of the runtime.

    Raises:
        ConfigError: the model cannot be exported, or packages are missing.
        WeightsError: the weights are not available, or the export cannot be stored.
    """
    facts = {"model": name, "memory": memory, "policy": policy, "samvideo": version("samvideo")}
    facts["weights"] = _digest(name, weights, progress)
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    folder = exports_folder() / f"{name or 'model'}-{key}"
    damaged = False
    if folder.is_dir():
        try:
            return open_exported(runtime, folder, policy=policy, device=device)
        except WeightsError as error:
            log.warning("%s; it is exported again", error)
            damaged = True
    _make(folder, name, weights, memory, policy, replacing=damaged)
    return open_exported(runtime, folder, policy=policy, device=device)


def _digest(name: str | None, weights: Path | None, progress: Progress | None) -> str:
    """The checksums of the files that the weights are read from."""
    if weights is not None:
        files = [] if is_random(weights) else weight_files(weights)
    elif name in BUNDLED:
        files = [BUNDLED_FOLDER / f"{name}.safetensors"]
    else:
        assert name is not None
        files = [fetch(checkpoint(name), progress=progress)]
    return " ".join(file_of(file).sha256 for file in files)


def _make(
    folder: Path, name: str | None, weights: Path | None, memory: str | None, policy: str | None, replacing: bool
) -> None:
    """Export a model into a new folder, which appears under its name when it is complete."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"), TemporaryDirectory(prefix=".samvideo-", dir=folder.parent) as scratch:
            if folder.is_dir() and not replacing:  # by another process meanwhile
                return
            from samvideo.checkpoints import load
            from samvideo.deploy.bundle import export_model

            log.warning("%s is exported to ONNX, once, which takes a while", name or weights)
            model = load(name, weights=weights, memory=memory, policy=policy)
            part = export_model(model, Path(scratch) / folder.name)
            shutil.rmtree(folder, ignore_errors=True)
            part.rename(folder)
    except (OSError, OutputError) as error:
        raise WeightsError(
            f"cannot store the export of {name or weights} in {folder.parent}: {error}; free some space there, or "
            "set SAMVIDEO_HOME to another folder"
        ) from error
