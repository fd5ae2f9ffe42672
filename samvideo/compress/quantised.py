"""Quantised models in files, by any method: the quantisers of each site as numbers and tensors."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter
from torch import Tensor, nn

from samvideo.compress.affine import Affine
from samvideo.compress.dynamic import Dynamic, InputRange
from samvideo.compress.fake import FakeQuantised, Kind, Layer, Method, Quantiser, Site, attach
from samvideo.compress.minmax import MinMax
from samvideo.compress.ptq4sam import PTQ4SAM, LogSoftmax
from samvideo.compress.saved import Operation
from samvideo.compress.w8a8 import W8A8, AfterGelu, SplitSoftmax, Symmetric

METHODS: dict[str, type[Method]] = {"minmax": MinMax, "dynamic": Dynamic, "w8a8": W8A8, "ptq4sam": PTQ4SAM}
QUANTISERS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (Affine, AfterGelu, InputRange, LogSoftmax, SplitSoftmax, Symmetric)
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
