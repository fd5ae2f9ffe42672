"""Weights that stand in for published ones: they show that everything else works."""

import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

log = logging.getLogger(__name__)


@contextmanager
def random_weights(name: str) -> Iterator[None]:
    """Networks built inside get the same weights each time: the seed is made from the name. Warns of them."""
    log.warning("%s has random weights: its masks mean nothing", name)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(zlib.crc32(name.encode()))
        yield
