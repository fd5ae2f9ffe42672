"""From a published name or a file to a model that is ready to track."""

from pathlib import Path

from samvideo.errors import ConfigError, WeightsError
from samvideo.memory.base import MemoryPolicy
from samvideo.models import VideoModel, build
from samvideo.specs import SPECS
from samvideo.state_dict import load_state, recognise
from samvideo.weights.catalog import checkpoint
from samvideo.weights.fetch import Progress, fetch
from samvideo.weights.read import read_state


def load(
    name: str | None = None,
    *,
    weights: Path | str | None = None,
    memory: str | None = None,
    policy: str | MemoryPolicy | None = None,
    input_size: int | tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> VideoModel:
    """A model of the SAM 2 family with its weights, in evaluation mode on the CPU.

    ::

        load("edgetam")                            # fetched at first use, then from the cache
        load("sam2.1-tiny", policy="pruning")      # another memory policy on the same weights
        load(weights="efficienttam_s.pt")          # a file of your own, recognised by its keys and shapes

    Args:
        name: a published model, see `samvideo models`; may be left out where `weights` is given.
        weights: a published file (.pt, .pth or .safetensors, also in the layout of Hugging Face) instead of the
            cache. Models that differ in nothing but how they are used share their keys: the plainest is taken, so
            name the model to get another.
        memory, policy, input_size: other than the published ones; the weights must fit.
        progress: told of a download, bytes there and expected.

    Raises:
        ConfigError: unknown name, memory or policy.
        WeightsError: the weights cannot be had, or are another model's.
    """
    if name is None and weights is None:
        raise ConfigError("load what? Give the name of a published model, or weights=FILE")
    if name is not None and name not in SPECS:
        checkpoint(name)  # says what is near
    if weights is None:
        assert name is not None
        state = read_state(fetch(checkpoint(name), progress=progress))
    else:
        state = read_state(Path(weights))
        fitting = recognise(state) if name is None else [name]
        if not fitting:
            raise WeightsError(
                f"{weights} fits no model known here by its keys and shapes: name the model with --model, "
                "and what is missing or too many is told"
            )
        name = fitting[0]
    model = build(name, memory=memory, policy=policy, input_size=input_size)
    load_state(model, state)
    return model
