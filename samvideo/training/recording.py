"""Record training data, clips and stills generated from sequences, in worker processes."""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file

from samvideo.nano.network import Fusion, Prompted
from samvideo.nano.runtime import Networks
from samvideo.training.clips import TrainingClip, load_sequences, make_clip
from samvideo.training.collecting import RecordingTracker, record
from samvideo.training.first_masks import make_still
from samvideo.training.fitting import Log


def record_clips(
    root: Path,
    folder: Path,
    count: int,
    length: int,
    workers: int,
    log: Log,
    followed: tuple[int, Path] | None = None,
) -> None:
    """Track generated clips and record the input of the network; existing files are kept.

    A clip depends only on its number, `length` and the sequences.

    Args:
        root: a DAVIS folder.
        folder: gets one file per clip.
        count: of clips.
        length: see `Recipe`.
        workers: processes.
        log: called with progress messages.
        followed: number of the round and weights of the fusion network; None for the hand-weighted cues.
    """
    _in_processes(partial(_clip, root, folder, length, followed or (0, None)), folder, count, workers, log, "clips")


def record_stills(root: Path, folder: Path, count: int, workers: int, log: Log) -> None:
    """Generate frames with an object, a box and its GrabCut mask; existing files are kept."""
    _in_processes(partial(_still, root, folder), folder, count, workers, log, "stills")


def _in_processes(job: Callable[[int], None], folder: Path, count: int, workers: int, log: Log, what: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    todo = [k for k in range(count) if not _file(folder, k).exists()]
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_single) as pool:
        for done, _ in enumerate(pool.map(job, todo, chunksize=4), count - len(todo) + 1):
            if done % max(1, count // 8) == 0 or done == count:
                log(f"{folder.name}: {done}/{count} {what}")


def _single() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def _clip(root: Path, folder: Path, length: int, followed: tuple[int, Path | None], number: int) -> None:
    rng = np.random.default_rng((number, 1, followed[0]))
    frames = length if number % 4 else length * 5 // 3
    recorded = None
    while recorded is None:
        recorded = record(_tracker(followed[1]), make_clip(_sequences(root), rng, frames), rng)
    _save(_file(folder, number), recorded)


def _still(root: Path, folder: Path, number: int) -> None:
    _save(_file(folder, number), make_still(_sequences(root), np.random.default_rng((number, 2))))


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:05}.npz"


def _save(file: Path, made: object) -> None:
    part = file.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as out:
        np.savez(out, **vars(made))
    part.replace(file)


@cache
def _sequences(root: Path) -> list[TrainingClip]:
    return load_sequences(root)


@cache
def _tracker(network: Path | None) -> RecordingTracker:
    fused = Fusion()
    if network is not None:
        fused.load_state_dict(load_file(network))
    return RecordingTracker(Networks(deepcopy(fused), Prompted()), network is not None)
