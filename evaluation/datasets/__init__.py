"""The benchmarks, one file each; `open_dataset` finds them by name."""

import os
from pathlib import Path

from samvideo.errors import ConfigError, DatasetError
from samvideo.evaluation.datasets.base import Dataset, DatasetSpec, WrongRoot, check_names
from samvideo.io.mask_pictures import FROM_FILE, MaskRule
from samvideo.registry import Registry

DATASETS = Registry("data set", "samvideo.evaluation.datasets", "samvideo.datasets", DatasetSpec)
OWN_FOLDER = "folder"
"""The data set of any sequences of a user, whose layout others may have, too."""


def open_dataset(
    name: str, root: str | os.PathLike[str], split: str | None = None, reading: MaskRule = FROM_FILE
) -> Dataset:
    """Open one split of a data set, by default its first; `reading` is what is known about its masks.

    Raises:
        ConfigError: there is no such data set or split.
        DatasetError: the folder does not exist, or does not have the published layout, or a sequence has a name
            that cannot be that of a folder of predictions.
    """
    spec, root = DATASETS.find(name), Path(root)
    split = split or spec.splits[0]
    if split not in spec.splits:
        raise ConfigError(f"{name} has no split {split!r}; known: {', '.join(spec.splits)}")
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder; expected:\n{spec.tree.rstrip()}")
    try:
        dataset = spec.load(root, split)
    except WrongRoot as error:
        likely = [other for other, spec in DATASETS.all().items() if other != name and spec.recognises(root)]
        if len(likely) > 1 and OWN_FOLDER in likely:
            likely.remove(OWN_FOLDER)
        tree = spec.tree.strip("\n")
        hint = f"\n{root} looks like {' or '.join(likely)}." if likely else ""
        raise DatasetError(
            f"{root} is not laid out as {name} expects: {error}. Expected:\n\n{tree}{hint}"
        ) from None
    check_names(dataset.sequences(), root, f"a sequence of {name} {split}")
    dataset.reading = reading
    return dataset
