"""Inference with the networks on the CPU, from arrays to arrays."""

import functools
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from samvideo.errors import WeightsError
from samvideo.nano.network import VALID, Fusion, Prompted, fuse
from samvideo.types import FloatArray
from samvideo.weights.naming import is_random
from samvideo.weights.read import read_state
from samvideo.weights.untrained import random_weights

P = ParamSpec("P")
R = TypeVar("R")
BUNDLED = Path(__file__).with_name("nano.safetensors")
SIDE = 144  # pixels of a crop with cues
PROMPT_SIDE = 192  # pixels of a crop with prompts


def _alone(function: Callable[P, R]) -> Callable[P, R]:
    """Run without gradients and on one thread: small networks lose time with more threads on a busy machine."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                return function(*args, **kwargs)
        finally:
            torch.set_num_threads(threads)

    return run


class Networks:
    """Both networks of the bundled tracker, for inference."""

    def __init__(self, fusion: Fusion, prompted: Prompted) -> None:
        self.fusion, self.prompted = fusion, prompted
        for network in (fusion, prompted):
            fuse(network.float().eval()).to(memory_format=torch.channels_last)

    @_alone
    def segment(self, planes: FloatArray, memories: list[Tensor]) -> tuple[FloatArray, float, float]:
        """Map cue planes (EVIDENCE, S, S) and two memories to logits of mask (S, S), presence and quality."""
        logits, judged = self.fusion(_batch(planes), memories)
        presence, quality = judged[0].tolist()
        return logits[0, 0].numpy(), presence, quality

    @_alone
    def remember(self, planes: FloatArray, belief: FloatArray) -> Tensor:
        """Encode planes (EVIDENCE, S, S) of a crop and the object's probability (S, S) as memory."""
        crop = _batch(planes)
        return self.fusion.remember(
            self.fusion.look(crop), torch.from_numpy(belief)[None, None], crop[:, VALID, None]
        )

    @_alone
    def draw(self, planes: Tensor) -> Tensor:
        """Map prompt planes (B, PROMPT, S, S) to mask logits (B, S, S)."""
        return self.prompted(planes.contiguous(memory_format=torch.channels_last))[0][:, 0]


def load(path: Path | None = None) -> Networks:
    """Load the networks of a file, by default the bundled ones; "random" makes untrained ones.

    Raises:
        WeightsError: the file is missing, damaged or not of these networks.
    """
    if is_random(path):
        with random_weights("nano"):
            return Networks(Fusion(), Prompted())
    return _bundled() if path is None else _read(path)


@cache
def _bundled() -> Networks:
    return _read(BUNDLED)


def _read(path: Path) -> Networks:
    try:
        state = read_state(path)
        fusion, prompted = Fusion(), Prompted()
        for name, network in (("fusion.", fusion), ("prompted.", prompted)):
            own = {k.removeprefix(name): v for k, v in state.items() if k.startswith(name)}
            counters = {k: v for k, v in network.state_dict().items() if "num_batches" in k}
            network.load_state_dict(own | counters)
    except RuntimeError as error:
        raise WeightsError(f"{path} does not hold nano's weights: {str(error).splitlines()[-1].strip()}") from None
    return Networks(fusion, prompted)


def _batch(planes: FloatArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(planes))[None].contiguous(memory_format=torch.channels_last)
