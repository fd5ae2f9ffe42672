"""Published weights into models: names, shapes, and which model a checkpoint belongs to."""

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

from samvideo import registry
from samvideo.errors import WeightsError
from samvideo.image_model import ImageModel
from samvideo.models import VideoModel
from samvideo.networks.base import Network
from samvideo.specs import BUNDLED, IMAGE_SPECS, SPECS, ModelSpec
from samvideo.weights import keys
from samvideo.weights.catalog import CATALOG

Loadable = ImageModel | Network
Shapes = Mapping[str, tuple[int, ...]]


def build_spec(spec: ModelSpec) -> Loadable:
    """What a spec describes, with untrained weights, in evaluation mode: a video or image model, or a network."""
    if spec.network is not None:
        network: Network = registry.NETWORKS.build(spec.network)
        network.name = spec.name
        return network.eval()
    return (ImageModel(spec) if spec.memory is None else VideoModel(spec)).eval()


def load_state(model: Loadable, state: Mapping[str, Tensor]) -> None:
    """Load published weights into a model that is not fused yet; all of them or none.

    Args:
        model: built for the same checkpoint.
        state: by the publishers' names or, for the hub's safetensors, by those of Hugging Face transformers.

    Raises:
        WeightsError: missing, unexpected or wrong-shaped entries, by the names of the file.
    """
    state = published_state(model, state)
    model.load_state_dict(
        {own: state.get(model.published(own), value) for own, value in model.state_dict().items()}
    )


def published_state(model: Loadable, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Weights by the publishers' names, checked to be those of a model; arguments and errors as of `load_state`."""
    names = published_shapes(model)
    state = _by_published_names(state)
    missing = sorted(set(names) - set(state) - set(_optional(model, names)))
    unexpected = sorted(set(state) - set(names))
    wrong = [
        f"{key} is {tuple(state[key].shape)} instead of {names[key]}"
        for key in sorted(set(names) & set(state))
        if tuple(state[key].shape) != names[key]
    ]
    if missing or unexpected or wrong:
        problems = [
            f"{len(x)} {what} ({', '.join(x[:3])}{', ...' if len(x) > 3 else ''})"
            for what, x in (("missing", missing), ("unexpected", unexpected), ("of another shape", wrong))
            if x
        ]
        raise WeightsError(
            f"these weights are not those of {model.name!r}: {'; '.join(problems)}. "
            f"By keys and shapes they fit: {', '.join(recognise(state)) or 'no model known here'}"
        )
    return state


def recognise(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the published and bundled models whose checkpoints have these keys and shapes.

    Weights do not determine how they are used: models that differ only in input size, pooling or policy share
    their shapes (efficienttam-s, -s-1, -s-2 and -s-512; sam2-small and both surgical-sam2; mobilesam, tinysam and
    mobilesamv2). The plainest comes first; where there are several, the user says which, or gets the first.
    """
    state = _by_published_names(state)
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    specs = {**SPECS, **IMAGE_SPECS, **BUNDLED}
    return [name for name, spec in specs.items() if _has_parts(shapes, name) and _fits(shapes, spec)]


def _has_parts(shapes: Shapes, name: str) -> bool:
    """Whether a checkpoint may be that of a model: building all of them, to compare shapes, takes seconds."""
    parts = CATALOG[name].parts if name in CATALOG else ()
    return all(any(key.startswith(part) for key in shapes) for part in parts)


def _fits(shapes: Shapes, spec: ModelSpec) -> bool:
    wanted, optional = _entries(spec)
    return wanted == {**optional, **shapes}


def _by_published_names(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    if not keys.is_hub(state):
        return state
    try:
        return keys.from_hub(state)
    except (TypeError, RuntimeError) as error:  # tensors that cannot be split or joined
        raise WeightsError(f"these weights are not those of a model in Hugging Face's layout: {error}") from error


def spec_shapes(spec: ModelSpec) -> Shapes:
    """Key and shape of every entry of the checkpoint of a spec, by the publishers' names; allocates nothing."""
    return _entries(spec)[0]


@cache
def _entries(spec: ModelSpec) -> tuple[Shapes, Shapes]:
    """`spec_shapes`, and those entries that may be missing."""
    with torch.device("meta"):
        model = build_spec(spec)
    shapes = published_shapes(model)
    return shapes, _optional(model, shapes)


def _optional(model: Loadable, shapes: Shapes) -> Shapes:
    """Entries that a checkpoint may lack: what inference does not read, such as the counters of batch norms."""
    return {**model.unused, **{key: shape for key, shape in shapes.items() if key.endswith(".num_batches_tracked")}}


def published_shapes(model: Loadable) -> Shapes:
    """Key and shape of every entry of the checkpoint of a model, by the publishers' names."""
    own = {model.published(key): tuple(value.shape) for key, value in model.state_dict().items()}
    return {**own, **model.unused}
