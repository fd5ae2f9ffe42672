"""The benchmarks, one file each; `open_dataset` finds them by name."""

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

from samvideo.errors import ConfigError, DatasetError
from samvideo.evaluation.datasets.base import Dataset, WrongRoot


def names() -> list[str]:
    """All data sets, in order; `folder` is for any sequences of your own."""
    return sorted(module.name for module in iter_modules(__path__) if module.name != "base")


def open_dataset(name: str, root: Path, split: str | None = None) -> Dataset:
    """Open one split of a data set; the first of its splits when none is named.

    Raises:
        ConfigError: no such data set or split.
        DatasetError: the folder is not there, or not laid out as published.
    """
    if name not in names():
        raise ConfigError(f"there is no data set {name!r}; known: {', '.join(names())}")
    module = _module(name)
    split = split or module.SPLITS[0]
    if split not in module.SPLITS:
        raise ConfigError(f"{name} has no split {split!r}; known: {', '.join(module.SPLITS)}")
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder; expected:\n{module.TREE.rstrip()}")
    try:
        dataset: Dataset = module.open(root, split)
    except WrongRoot as error:
        likely = [other for other in names() if other not in (name, "folder") and _module(other).recognises(root)]
        if not likely and name != "folder" and _module("folder").recognises(root):
            likely = ["folder"]
        hint = f"\n{root} looks like {' or '.join(likely)}." if likely else ""
        raise DatasetError(f"{error}{hint}") from None
    return dataset


def _module(name: str) -> ModuleType:
    return import_module(f"samvideo.evaluation.datasets.{name}")
