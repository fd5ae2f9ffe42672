"""Loads models by their published name or from a file."""

from pathlib import Path

from torch import Tensor

from samvideo.errors import ConfigError, WeightsError
from samvideo.memory.base import MemoryPolicy
from samvideo.models import VideoModel, build
from samvideo.specs import SPECS
from samvideo.state_dict import load_state, recognise
from samvideo.weights.catalog import checkpoint
from samvideo.weights.fetch import fetch
from samvideo.weights.read import read_state
from samvideo.weights.transfer import Progress


def load(
    name: str | None = None,
    *,
    weights: Path | str | None = None,
    memory: str | None = None,
    policy: str | MemoryPolicy | None = None,
    input_size: int | tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> VideoModel:
    """Load a model of the SAM 2 family, in evaluation mode on the CPU.

    ::

        load("edgetam")                            # downloaded at first use, then from the cache
        load("sam2.1-tiny", policy="pruning")      # another memory policy with the same weights
        load(weights="efficienttam_s.pt")          # a file of your own, recognised by its keys and shapes

    Args:
        name: a published model, see `samvideo models`; may be left out if `weights` is given.
        weights: a published file (.pt, .pth or .safetensors, also in the layout of Hugging Face) instead of the
            cache. Models that differ only in how they are used have the same keys: the plainest is taken, so name
            the model to get another one.
        memory, policy, input_size: other than the published ones; the weights must fit.
        progress: called during a download with the number of bytes present and expected.

    Raises:
        ConfigError: unknown name, memory or policy.
        WeightsError: the weights are not available, or are another model's.
    """
    if weights is not None:
        file = Path(weights)
    elif name is not None:
        file = fetch(checkpoint(name), progress=progress)
    else:
        raise ConfigError("nothing to load: give the name of a published model, or weights=FILE")
    if name is not None and name not in SPECS:
        checkpoint(name)  # suggests similar names
    state = _read_again(file, name if weights is None else None, progress)
    if name is None:
        fitting = recognise(state)
        if not fitting:
            raise WeightsError(
                f"{weights} fits no known model by its keys and shapes: name the model with --model to see which "
                "entries are missing or unexpected"
            )
        name = fitting[0]
    model = build(name, memory=memory, policy=policy, input_size=input_size)
    load_state(model, state)
    return model


def _read_again(file: Path, cached: str | None, progress: Progress | None) -> dict[str, Tensor]:
    """Read a file; if it is that of a model in the cache and damaged, download it again."""
    try:
        return read_state(file)
    except WeightsError:
        if cached is None:
            raise
        return read_state(fetch(checkpoint(cached), progress=progress, recheck=True))
