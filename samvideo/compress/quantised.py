"""Quantised models in files, by any method: the quantisers of each site as numbers and tensors."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter
from torch import Tensor, nn

from samvideo.compress.affine import Affine
from samvideo.compress.dynamic import Dynamic, InputRange
from samvideo.compress.fake import FakeQuantised, Kind, Layer, Method, Quantiser, Site, attach
from samvideo.compress.minmax import MinMax
from samvideo.compress.pqsam import PQSAM, Grouped
from samvideo.compress.ptq4sam import PTQ4SAM, LogSoftmax
from samvideo.compress.saved import Operation, Recipe, operation_tensors, recipe_of, save_compressed
from samvideo.compress.w8a8 import W8A8, AfterGelu, SplitSoftmax, Symmetric
from samvideo.errors import ConfigError
from samvideo.image_model import ImageModel
from samvideo.weights.read import read_state

METHODS: dict[str, Callable[[int], Method]] = {
    "minmax": MinMax,
    "dynamic": Dynamic,
    "w8a8": W8A8,
    "ptq4sam": PTQ4SAM,
    "pqsam": PQSAM,
}
"""From bits to the method."""
QUANTISERS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (Affine, AfterGelu, Grouped, InputRange, LogSoftmax, SplitSoftmax, Symmetric)
}
OPERATION = "quantise"


class _Quantiser(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    kind: str
    numbers: dict[str, float | int]


class _Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid")

    method: str
    sites: dict[str, dict[Kind, _Quantiser]]


_PARAMETERS = TypeAdapter(_Parameters)


class Base:
    """What a model was before it is quantised, for its file.

    Args:
        model: the model.
        weights: file that it was loaded from; None for its own weights.

    Raises:
        ConfigError: it is quantised already.
    """

    def __init__(self, model: ImageModel, weights: Path | None) -> None:
        self.recipe = recipe_of(weights) or Recipe(model=model.name, operations=[])
        self.tensors: list[dict[str, Tensor]] = []
        if self.recipe.operations:
            state = read_state(Path(str(weights)))
            self.tensors = [operation_tensors(state, i) for i in range(len(self.recipe.operations))]
        if any(operation.name == OPERATION for operation in self.recipe.operations):
            raise ConfigError(f"{weights} is quantised already: give the model that it was made from")

    def save(self, path: Path, model: ImageModel, method: str, quantised: FakeQuantised) -> None:
        """Write the quantised model, which is fused; see `save_compressed`."""
        operation, tensors = operation_of(method, quantised)
        operations = [*self.recipe.operations, Operation(name="fuse"), operation]
        recipe = Recipe(model=self.recipe.model, operations=operations)
        save_compressed(path, model, recipe, [*self.tensors, {}, tensors])


def operation_of(method: str, quantised: FakeQuantised) -> tuple[Operation, dict[str, Tensor]]:
    """The operation, for a `samvideo.compress.saved.Recipe`, and its tensors.

    Args:
        method: its name, which is kept.
        quantised: what was quantised; its weights are those of the model.
    """
    sites: dict[str, JsonValue] = {}
    tensors: dict[str, Tensor] = {}
    for site in quantised.sites:
        rows: dict[str, JsonValue] = {}
        for use, quantiser in site.quantisers.items():
            values = _values(quantiser)
            tensors |= {f"{site.name}.{use}.{key}": x for key, x in values.items() if isinstance(x, Tensor)}
            numbers = {key: x for key, x in values.items() if not isinstance(x, Tensor)}
            rows[use] = {"kind": type(quantiser).__name__, "numbers": numbers}
        sites[site.name] = rows
    return Operation(name=OPERATION, parameters={"method": method, "sites": sites}), tensors


def _values(quantiser: Quantiser) -> dict[str, Any]:
    return {field.name: getattr(quantiser, field.name) for field in fields(quantiser)}  # type: ignore[arg-type]


def restore(model: nn.Module, parameters: Mapping[str, JsonValue], tensors: Mapping[str, Tensor]) -> None:
    """See `samvideo.compress.saved.Restore`; the weights that are loaded afterwards are quantised already."""
    modules = dict(model.named_modules())
    sites = []
    for name, rows in _PARAMETERS.validate_python(dict(parameters)).sites.items():
        module = modules[name]
        quantisers = {use: _quantiser(row, f"{name}.{use}.", tensors) for use, row in rows.items()}
        sites.append(Site(name, quantisers, module if isinstance(module, Layer) else None))
    attach(model, sites, [])


def _quantiser(row: _Quantiser, prefix: str, tensors: Mapping[str, Tensor]) -> Quantiser:
    own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    found: Quantiser = QUANTISERS[row.kind](**row.numbers, **own)
    return found
