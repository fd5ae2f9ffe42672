"""Published weights into models: names, shapes, and which model a checkpoint belongs to."""

from collections.abc import Mapping

import torch
from torch import Tensor

from samvideo.errors import WeightsError
from samvideo.models import VideoModel
from samvideo.specs import SPECS, ModelSpec
from samvideo.weights import keys


def load_state(model: VideoModel, state: Mapping[str, Tensor]) -> None:
    """Load published weights into a model that is not fused yet; all of them or none.

    Args:
        model: built for the same checkpoint.
        state: by the publishers' names or, for the hub's safetensors, by those of Hugging Face transformers.

    Raises:
        WeightsError: missing, unexpected or wrong-shaped entries, by the names of the file.
    """
    names = published_shapes(model)
    state = _by_published_names(state)
    missing = sorted(set(names) - set(state) - set(keys.UNUSED))
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
            f"these weights are not those of {model.spec.name!r}: {'; '.join(problems)}. "
            f"By keys and shapes they fit: {', '.join(recognise(state)) or 'no model known here'}"
        )
    own = {ours: state[theirs] for theirs, ours in ((keys.published(k), k) for k in model.state_dict())}
    model.load_state_dict(own)


def recognise(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the published models whose checkpoints have these keys and shapes.

    Weights do not determine how they are used: models that differ only in input size, pooling or policy share
    their shapes (efficienttam-s, -s-1, -s-2 and -s-512; sam2-small and both surgical-sam2). The plainest comes
    first; where there are several, the user says which, or gets the first.
    """
    state = _by_published_names(state)
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    return [name for name, spec in SPECS.items() if spec_shapes(spec) == keys.UNUSED | shapes]


def _by_published_names(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    if not keys.is_hub(state):
        return state
    try:
        return keys.from_hub(state)
    except (TypeError, RuntimeError) as error:  # tensors that cannot be split or joined
        raise WeightsError(f"these weights are not those of a model in Hugging Face's layout: {error}") from error


def spec_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Key and shape of every entry of the checkpoint of a spec, by the publishers' names; allocates nothing."""
    with torch.device("meta"):
        return published_shapes(VideoModel(spec))


def published_shapes(model: VideoModel) -> dict[str, tuple[int, ...]]:
    """Key and shape of every entry of the checkpoint of a model, by the publishers' names."""
    shapes = {keys.published(key): tuple(value.shape) for key, value in model.state_dict().items()}
    return shapes | keys.UNUSED
