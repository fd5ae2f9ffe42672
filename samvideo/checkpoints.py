"""Loads models by their published name or from a file."""

import logging
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from samvideo.compress.saved import load_compressed, recipe_of
from samvideo.errors import ConfigError, WeightsError
from samvideo.image_model import ImageModel
from samvideo.memory.base import MemoryPolicy
from samvideo.models import VideoModel, build, encoders
from samvideo.policies import parse_policy
from samvideo.specs import BUNDLED, BUNDLED_FOLDER, IMAGE_SPECS, SPECS
from samvideo.state_dict import Loadable, build_spec, load_state, recognise, spec_shapes
from samvideo.weights.catalog import CATALOG, checkpoint
from samvideo.weights.fetch import fetch
from samvideo.weights.naming import is_random, split_name, weight_files
from samvideo.weights.read import read_state
from samvideo.weights.transfer import Progress
from samvideo.weights.untrained import random_weights

log = logging.getLogger(__name__)

ENCODER = "image_encoder."
"""Prefix of the encoder in the checkpoints of most models."""
NO_MEMORY = (
    "an image model, which has no memory to track with: use load_segmenter, or build(ENCODER, memory=...) for its "
    "encoder with a memory"
)


def load(
    name: str | None = None,
    *,
    weights: Path | str | None = None,
    memory: str | None = None,
    policy: str | MemoryPolicy | None = None,
    input_size: int | tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> VideoModel:
    """Load a model of the SAM 2 family or the bundled one, in evaluation mode on the CPU.

        load("edgetam")                            # downloaded at first use, then from the cache
        load("sam2.1-tiny", policy="pruning")      # another memory policy with the same weights
        load("sam2.1-tiny", policy="samurai:motion_weight=0.2")
        load(weights="efficienttam_s.pt")          # a file of your own, recognised by its keys and shapes
        load("efficienttam-s-512=efficienttam_s.pt")

    Args:
        name: a published model, see `samvideo models`, or NAME=FILE; may be left out if `weights` is given.
        weights: a published file (.pt, .pth or .safetensors, also in the layout of Hugging Face) instead of the
            cache, or a compressed model (`samvideo.compress.saved`). Models that differ only in how they are used
            have the same keys: the plainest is taken, so name the model to get another one. "random" stands for
            untrained weights from a fixed seed.
        memory, policy, input_size: other than the published ones; the weights must fit. A policy may have options,
            see `samvideo models --policies`.
        progress: called during a download with the number of bytes present and expected.

    Raises:
        ConfigError: unknown name, memory or policy, or an image model.
        WeightsError: the weights are not available, or are another model's.
    """
    if name is not None and split_name(name, weights)[0] in IMAGE_SPECS:
        raise ConfigError(f"{name} is {NO_MEMORY}")
    model = load_any(name, weights=weights, memory=memory, policy=policy, input_size=input_size, progress=progress)
    if not isinstance(model, VideoModel):
        raise ConfigError(f"{weights} holds {NO_MEMORY}")
    return model


def load_any(
    name: str | None = None,
    *,
    weights: Path | str | None = None,
    memory: str | None = None,
    policy: str | MemoryPolicy | None = None,
    input_size: int | tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> Loadable:
    """As `load`, but also for image models and networks of their own, which have no memory, policy and input size.

    Args:
        name: of any model.
        weights: as of `load`; where the publisher gives several files, these separated by commas, or their folder.
        memory, policy, input_size: of a video model.
        progress: as of `load`.
    """
    if isinstance(policy, str):
        parse_policy(policy)  # a wrong one fails before a long download
    if name is not None:
        name, weights = split_name(name, weights)
    if (compressed := _compressed(name, weights, memory, policy, input_size)) is not None:
        return compressed
    if name is not None:
        if name in BUNDLED:
            return load_bundled(name, weights, memory=memory, policy=policy, input_size=input_size)
        if name not in CATALOG and name in encoders():
            raise ConfigError(
                f"{name!r} is an encoder, and no video model with it is published: "
                f"samvideo.build({name!r}, memory=...) makes an untrained one"
            )
        checkpoint(name)  # suggests similar names
    if is_random(weights):
        if name is None:
            raise ConfigError("random weights are those of any model: name one")
        with random_weights(name):
            return _untrained(name, memory, policy, input_size)
    name, state = _named_state(name, weights, progress)
    model = _untrained(name, memory, policy, input_size)
    load_state(model, state)
    return model


def load_bundled(
    name: str,
    weights: Path | str | None = None,
    *,
    memory: str | None = None,
    policy: str | MemoryPolicy | None = None,
    input_size: int | tuple[int, int] | None = None,
) -> VideoModel:
    """A model whose weights are part of the package; arguments and errors as of `load`."""
    if is_random(weights):
        with random_weights(name):
            return build(name, memory=memory, policy=policy, input_size=input_size)
    file = BUNDLED_FOLDER / f"{name}.safetensors" if weights is None else Path(weights)
    if weights is None and not file.is_file():
        raise WeightsError(
            f"this installation lacks {file}, the weights of {name}: install samvideo again, or name a file of "
            f"them ({name}=FILE)"
        )
    state = read_state(file)
    model = build(name, memory=memory, policy=policy, input_size=input_size)
    load_state(model, state)
    return model


def _compressed(
    name: str | None,
    weights: Path | str | None,
    memory: str | None,
    policy: str | MemoryPolicy | None,
    input_size: int | tuple[int, int] | None,
) -> ImageModel | None:
    """The compressed model of a file; None if it is not such a file."""
    recipe = recipe_of(weights)
    if recipe is None:
        return None
    if name not in (None, recipe.model):
        raise WeightsError(f"{weights} holds a compressed {recipe.model}, not {name}: leave the name out")
    if recipe.model not in {**SPECS, **IMAGE_SPECS, **BUNDLED}:
        raise WeightsError(f"{weights} holds a compressed {recipe.model[:60]!r}, which is not a model known here")
    model = _untrained(recipe.model, memory, policy, input_size)
    if not isinstance(model, ImageModel):
        raise WeightsError(f"{weights} holds a compressed {recipe.model}: SAMs and video models only expected")
    load_compressed(Path(str(weights)), recipe, model)
    return model


def _untrained(
    name: str, memory: str | None, policy: str | MemoryPolicy | None, input_size: int | tuple[int, int] | None
) -> Loadable:
    if name in IMAGE_SPECS:
        for option, value in (("memory", memory), ("policy", policy), ("input_size", input_size)):
            if value is not None:
                raise ConfigError(f"{name} is an image model, which has no {option}: leave it out")
        return build_spec(IMAGE_SPECS[name])
    return build(name, memory=memory, policy=policy, input_size=input_size)


def _named_state(
    name: str | None, weights: Path | str | None, progress: Progress | None
) -> tuple[str, Mapping[str, Tensor]]:
    """The name of a model, which its weights tell if it is not given, and these by the publisher's names."""
    if weights is None:
        if name is None:
            raise ConfigError("nothing to load: give the name of a published model, or weights=FILE")
        return name, _read_cached(name, progress)
    if name is not None:
        return name, read_files(name, weights)
    files = weight_files(weights)
    if len(files) > 1:
        raise ConfigError(f"{weights} means {len(files)} files, parts of a model: name it to join them")
    state = read_state(files[0])
    fitting = recognise(state)
    if not fitting:
        raise WeightsError(
            f"{weights} fits no known model by its keys and shapes: name the model with --model to see which "
            "entries are missing or unexpected"
        )
    if len(fitting) > 1:
        log.warning("%s fits %s, and is taken for the first: name another one", weights, ", ".join(fitting))
    return fitting[0], state


def _read_cached(name: str, progress: Progress | None) -> dict[str, Tensor]:
    """Read a model of the cache; if its file is damaged, download it again."""
    row = checkpoint(name)
    file = fetch(row, progress=progress)
    try:
        return read_state(file)
    except WeightsError:
        return read_state(fetch(row, progress=progress, recheck=True))


def read_files(name: str, weights: Path | str) -> Mapping[str, Tensor]:
    """The weights of a model, by the publisher's names, from its file or the several that the publisher gives.

    A later file adds what the model still lacks: a decoder may come with the encoder of another model.

    Raises:
        WeightsError: a file is missing or broken, or adds nothing.
    """
    files = weight_files(weights)
    states = [read_state(file) for file in files]
    row = CATALOG[name]
    if len(files) == 1 and not row.files:
        return states[0]
    spec = {**SPECS, **IMAGE_SPECS}[name]
    wanted = spec_shapes(spec)
    foreign = () if any(key.startswith(ENCODER) for key in wanted) else (ENCODER,)
    joined: dict[str, Tensor] = {}
    for file, state in zip(files, states, strict=True):
        prefix = max(("", *spec.prefixes), key=lambda prefix: sum(prefix + key in wanted for key in state))
        named = {prefix + key: value for key, value in state.items() if not (prefix + key).startswith(foreign)}
        added = {key: value for key, value in named.items() if key not in joined}
        if not added:
            raise WeightsError(f"{file} has nothing that {name} lacks beside the other files: leave it out")
        joined |= added
    missing = [part for part in row.parts if not any(key.startswith(part) for key in joined)]
    if missing and row.files:
        raise WeightsError(
            f"{', '.join(map(str, files))} lacks {missing[0]}* of {name}, whose parts ({', '.join(row.files)}) are "
            "published in a file each: give them all, separated by commas, or the folder that holds them"
        )
    return joined
