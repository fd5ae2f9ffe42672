"""Compressed models in a file: their weights, and the operations that made them from a model that has a name.

A .safetensors file of the state dict, by our own names, with a JSON text in its metadata: the model's name, and the
operations in order. To load it, the model is built, each operation is applied to it again by its `Restore`, and the
weights are loaded last. So a pruning has the modules cut to their new shapes, and a quantisation, whose weights are
in the file already, attaches its quantisers.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from samvideo.errors import SamVideoError, WeightsError
from samvideo.image_model import ImageModel
from samvideo.io.files import write_atomically
from samvideo.io.schema import parse_json
from samvideo.weights.read import read_state

ENTRY = "samvideo.compressed"
"""Key of the JSON text in the metadata of the file."""
EXTRA = "operations."
"""Begins the names of the tensors of operations."""
RESTORES = {
    "fuse": "samvideo.compress.saved.fuse",
    "quantise": "samvideo.compress.quantised.restore",
    "slim": "samvideo.compress.slim.restore",
}
"""By the name of an operation, its `Restore`; imported only for files that need it."""


class Restore(Protocol):
    """Applies an operation to a model again, before its weights are loaded."""

    def __call__(self, model: Any, parameters: Mapping[str, JsonValue], tensors: Mapping[str, Tensor]) -> None:
        """Change the model, in place.

        Args:
            model: with untrained weights, after the operations before this one.
            parameters: of the operation; checked here, as a file may hold anything.
            tensors: of the operation, other than weights of the model.

        Raises:
            WeightsError: the parameters, named, do not suit. Other exceptions are turned into one.
        """


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Operation(_Model):
    """What was done to a model.

    Attributes:
        name: in `RESTORES`.
        parameters: all that is needed to do it again, but tensors.
    """

    name: str
    parameters: dict[str, JsonValue] = {}


class Recipe(_Model):
    """How a compressed model came about.

    Attributes:
        model: name of the model at the beginning.
        operations: in their order.
        version: of this format.
    """

    model: str
    operations: list[Operation]
    version: int = 1


_RECIPE = TypeAdapter(Recipe)


def fuse(model: Any, parameters: Mapping[str, JsonValue], tensors: Mapping[str, Tensor]) -> None:
    """`Restore` of folding layers for inference."""
    model.fuse()


def save_compressed(
    path: Path, model: nn.Module, recipe: Recipe, tensors: Sequence[Mapping[str, Tensor]] = ()
) -> None:
    """Write a compressed model.

    Args:
        path: ends in .safetensors.
        model: compressed.
        recipe: what was done; for a model that was compressed before, `recipe_of` its file and more operations.
        tensors: of each operation, floating-point.

    Raises:
        OutputError: it cannot be written.
    """
    state = {key: value.contiguous().clone() for key, value in model.state_dict().items()}
    for i, extra in enumerate(tensors):
        state |= {f"{EXTRA}{i}.{key}": value.contiguous().clone() for key, value in extra.items()}
    write_atomically(path, save(state, {ENTRY: recipe.model_dump_json()}))


def recipe_of(path: Path | str | None) -> Recipe | None:
    """The recipe of a compressed model's file; None if it is not such a file.

    Raises:
        WeightsError: the recipe is damaged, or of a later version.
    """
    if path is None or Path(path).suffix.lower() != ".safetensors" or not Path(path).is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(ENTRY)
    except (SafetensorError, OSError):
        return None  # reading its weights says what is wrong
    if text is None:
        return None
    recipe = parse_json(text.encode(), _RECIPE, str(path), "the recipe of a compressed model", WeightsError)
    if recipe.version != 1:
        raise WeightsError(
            f"{path} has version {recipe.version} of its format, 1 expected: install a newer samvideo"
        )
    for operation in recipe.operations:
        if operation.name not in RESTORES:
            raise WeightsError(
                f"{path} was compressed by {operation.name[:60]!r}, not one of {', '.join(RESTORES)}: install a "
                "newer samvideo"
            )
    return recipe


def operation_tensors(state: dict[str, Tensor], index: int) -> dict[str, Tensor]:
    """Take the tensors of an operation out of what a file holds."""
    prefix = f"{EXTRA}{index}."
    keys = [key for key in state if key.startswith(prefix)]
    return {key.removeprefix(prefix): state.pop(key) for key in keys}


def load_compressed(path: Path, recipe: Recipe, model: ImageModel) -> None:
    """Compress a model as a file says, and load the file's weights into it.

    Args:
        path: of the file.
        recipe: its recipe.
        model: the one that the recipe names, as built; changed in place.

    Raises:
        WeightsError: the file does not fit its own recipe, or is damaged.
    """
    state = read_state(path)
    for i, operation in enumerate(recipe.operations):
        tensors = operation_tensors(state, i)
        module, function = RESTORES[operation.name].rsplit(".", 1)
        restore: Restore = getattr(import_module(module), function)
        try:
            restore(model, operation.parameters, tensors)
        except (SamVideoError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise WeightsError(
                f"{path} is damaged: {operation.name} cannot be repeated on {recipe.model} ({str(error)[:200]}); "
                "compress the model again"
            ) from error
    wanted = {key: value.shape for key, value in model.state_dict().items()}
    wrong = [key for key in wanted.keys() | state.keys() if key not in state or wanted.get(key) != state[key].shape]
    if wrong:
        raise WeightsError(
            f"{path} is damaged: {len(wrong)} entries ({', '.join(sorted(wrong)[:3])}, ...) do not fit "
            f"{recipe.model} with its operations; compress the model again"
        )
    model.load_state_dict(state)
