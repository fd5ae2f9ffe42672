"""What users write for a model and its weights: `NAME`, `NAME=FILE`, and which files that means."""

from contextlib import suppress
from pathlib import Path

from samvideo.errors import ConfigError, WeightsError, shown
from samvideo.weights.contents import SUFFIXES

RANDOM = "random"
"""In the place of a file: weights from a generator with a fixed seed."""


def split_name(model: str, weights: Path | str | None = None) -> tuple[str, Path | None]:
    """Split `NAME=FILE` into name and weights; without `=FILE`, `weights` are returned as they are.

    Args:
        model: what was given for a model.
        weights: what was given for its weights elsewhere: a file, files separated by commas, a folder, or "random".

    Raises:
        ConfigError: weights are given twice, or the name or the file is missing.
    """
    name, equals, file = model.partition("=")
    if not equals:
        return name, None if weights is None else _path(weights)
    if weights is not None:
        raise ConfigError(
            f"the weights of {shown(name)} are given twice, {shown(file)} and {shown(str(weights))}: leave one out"
        )
    if not name or not file:
        raise ConfigError(f"{shown(model)} lacks its {'file' if name else 'name'}: NAME=FILE expected")
    return name, _path(file)


def is_random(weights: Path | str | None) -> bool:
    """Whether weights are to come from a generator."""
    return str(weights) == RANDOM


def weight_files(weights: Path | str) -> list[Path]:
    """The files that `weights` mean: one, several separated by commas, or all checkpoints of a folder.

    Raises:
        WeightsError: a file does not exist, or the folder has no checkpoint.
    """
    path = _path(weights)
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        if not found:
            raise WeightsError(f"folder {path} has no checkpoint: files ending in {', '.join(SUFFIXES)} expected")
        # beside model.safetensors, Hugging Face keeps the same weights as pytorch_model.bin
        return [file for file in found if file.suffix.lower() != ".bin"] or found
    files = [path] if path.is_file() else [_path(part.strip()) for part in str(weights).split(",") if part.strip()]
    for file in files or [path]:
        if not file.is_file():
            raise WeightsError(f"there is no file {file}: check the spelling and the folder you are in")
    return files


def _path(text: Path | str) -> Path:
    """A path, in which a leading ~ is the home folder: shells leave it as it is in NAME=~/FILE."""
    path = Path(text)
    with suppress(RuntimeError):  # ~NAME of nobody
        path = path.expanduser()
    return path
