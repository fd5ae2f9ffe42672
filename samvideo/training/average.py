"""Means of the weights of related trainings (Wortsman et al. 2022, Model soups)."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from samvideo.errors import ConfigError, WeightsError
from samvideo.training.files import claimed, sha256, write
from samvideo.weights.read import read_state


def average(files: Sequence[Path], output: Path) -> None:
    """Write the mean of several files of weights; better than each of them, if one was trained on from another.

    Raises:
        ConfigError: fewer than two files, or `output` is of something else.
        WeightsError: a file cannot be read, or has other entries or shapes than the first.
        OutputError: `output` cannot be written.
    """
    if len(files) < 2:
        raise ConfigError(f"a mean of {len(files)} files of weights: at least two expected")
    states = [read_state(file) for file in files]
    shapes = [{key: value.shape for key, value in state.items()} for state in states]
    for file, own in zip(files[1:], shapes[1:], strict=True):
        if own != shapes[0]:
            raise WeightsError(f"{file} has other entries or shapes than {files[0]}: weights of one model expected")
    record = json.dumps({"mean of": [sha256(file) for file in files]}, indent=1)
    mean = {key: torch.stack([state[key].double() for state in states]).mean(0).float() for key in states[0]}
    with claimed(output, record):
        write(output, mean, record)
