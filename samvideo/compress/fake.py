"""Fake quantisation: layers and attention compute with the values that integers could hold, in floating point.

It shows what a method costs in masks, not what it gains in speed. Any module will do: layers are found by their
class, attention by its call of `scaled_dot_product_attention`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from samvideo.errors import ConfigError

Kind = Literal["input", "query", "key", "value", "softmax"]
"""What is quantised: the input of a layer, or one of the four of attention."""
Layer = nn.Linear | nn.Conv2d
Quantiser = Callable[[Tensor], Tensor]
BITS = range(2, 17)
OUTSIDE = "attention that the memory computes outside of any module"


class Observer(Protocol):
    """Gathers what a quantiser needs to know of its inputs."""

    def observe(self, x: Tensor, values: Tensor | None = None) -> None:
        """Take a batch into account; `values` are what the softmax weights."""

    def quantiser(self) -> Quantiser:
        """Of the batches so far."""


@dataclass(frozen=True)
class Method:
    """A way to quantise.

    Attributes:
        bits: of weights and activations.
        samples: inputs of a layer that its `weight` wants to see.
    """

    bits: int = 8
    samples: int = 0

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise ConfigError(f"{self.bits} bits: {BITS[0]} to {BITS[-1]} expected")

    def prepare(self, model: nn.Module, run: Callable[[], object]) -> None:
        """Change the model, in place, without changing its output; `run` runs it on the calibration data."""

    def skips(self, layer: Layer) -> bool:
        """Whether a layer stays as it is."""
        return False

    def observer(self, kind: Kind, layer: Layer | None = None) -> Observer:
        """A new observer; of the input of `layer`, or of attention."""
        raise NotImplementedError

    def weight(self, layer: Layer, inputs: list[Tensor], quantiser: Quantiser) -> Tensor:
        """The layer's weight, quantised.

        Args:
            layer: with its own weight.
            inputs: the first ones, `samples` of them.
            quantiser: of the input.
        """
        raise NotImplementedError


def rows_of(weight: Tensor) -> Tensor:
    """(outputs, everything else)."""
    return weight.detach().flatten(1)


class _Attention(TorchFunctionMode):
    """Hands q, k, v and softmax of scaled dot-product attention to a function each."""

    def __init__(self, apply: Callable[[Kind, Tensor, Tensor | None], Tensor]) -> None:
        super().__init__()
        self.apply = apply

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            return self._attend(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **options: Any
    ) -> Tensor:
        if set(options) - {"scale"}:
            raise ConfigError(f"attention with {', '.join(sorted(options))} cannot be quantised")
        q, k, v = self.apply("query", query, None), self.apply("key", key, None), self.apply("value", value, None)
        scores = q @ k.mT * (options.get("scale") or q.shape[-1] ** -0.5)
        if attn_mask is not None:
            scores = (
                scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
            )
        return self.apply("softmax", scores.softmax(-1), v) @ v


@dataclass(eq=False)
class Site:
    """A layer with its input, or an attention with its four tensors; quantised unless `enabled` is False.

    Attributes:
        name: of the module in the model.
        quantisers: by what they quantise.
        layer: None for attention.
        weight: the layer's quantised one.
    """

    name: str
    quantisers: dict[Kind, Quantiser]
    layer: Layer | None = None
    weight: Tensor | None = None
    enabled: bool = True
    original: Tensor | None = None
    mode: list[_Attention] = field(default_factory=list)

    def attach(self, module: nn.Module) -> list[RemovableHandle]:
        """Hooks that quantise."""
        if self.layer is None:
            return [
                module.register_forward_pre_hook(self._enter),
                module.register_forward_hook(self._exit, always_call=True),
            ]
        self.original = self.layer.weight.data
        self.enable(self.enabled)
        return [module.register_forward_pre_hook(self._input)]

    def enable(self, on: bool) -> None:
        """Switch quantisation on or off."""
        self.enabled = on
        if self.layer is not None and self.weight is not None and self.original is not None:
            self.layer.weight.data = self.weight if on else self.original

    def _input(self, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (self.quantisers["input"](args[0]), *args[1:]) if self.enabled else args

    def _quantised(self, kind: Kind, x: Tensor, _: Tensor | None) -> Tensor:
        return self.quantisers[kind](x) if self.enabled else x

    def _enter(self, *_: object) -> None:
        self.mode.append(_Attention(self._quantised))
        self.mode[-1].__enter__()  # type: ignore[no-untyped-call]

    def _exit(self, *_: object) -> None:
        self.mode.pop().__exit__(None, None, None)  # type: ignore[no-untyped-call]


@dataclass(eq=False)
class FakeQuantised:
    """What was quantised in a model; `remove` restores it.

    Attributes:
        sites: what is quantised.
        handles: of the hooks.
        left: names of layers and attentions that stay in floating point, since the method skips them, the
            calibration data do not reach them, or no module computes them.
    """

    sites: list[Site]
    handles: list[RemovableHandle]
    left: list[str] = field(default_factory=list)

    def remove(self) -> None:
        """Restore the weights, and quantise no more."""
        for site in self.sites:
            site.enable(False)
        for handle in self.handles:
            handle.remove()

    @contextmanager
    def only(self, *names: str) -> Iterator[None]:
        """Quantise at these sites alone, for a while."""
        before = [site.enabled for site in self.sites]
        for site in self.sites:
            site.enable(site.name in names)
        try:
            yield
        finally:
            for site, on in zip(self.sites, before, strict=True):
                site.enable(on)


class _Calibration:
    """Observers of all layers and attentions that a run reaches."""

    def __init__(self, model: nn.Module, method: Method) -> None:
        self.method = method
        self.modules = dict(model.named_modules())
        self.observers: dict[tuple[str, Kind], Observer] = {}
        self.samples: dict[str, list[Tensor]] = {}
        self.stack: list[str] = []
        self.outside = False

    def run(self, run: Callable[[], object]) -> None:
        handles: list[RemovableHandle] = []
        for name, module in self.modules.items():
            handles.append(module.register_forward_pre_hook(self._push(name)))
            handles.append(module.register_forward_hook(self._pop, always_call=True))
        try:
            with torch.no_grad(), _Attention(self._observe_attention):
                run()
        finally:
            for handle in handles:
                handle.remove()

    def _push(self, name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def push(module: nn.Module, args: tuple[Any, ...]) -> None:
            self.stack.append(name)
            if isinstance(module, Layer) and not self.method.skips(module):
                self._observe(name, "input", args[0], None)
                kept = self.samples.setdefault(name, [])
                if len(kept) < self.method.samples:
                    kept.append(args[0].clone())

        return push

    def _pop(self, *_: object) -> None:
        self.stack.pop()

    def _observe_attention(self, kind: Kind, x: Tensor, values: Tensor | None) -> Tensor:
        if self.stack:
            self._observe(self.stack[-1], kind, x, values)
        else:
            self.outside = True
        return x

    def left(self) -> list[str]:
        """Of what a run reached and did not reach; see `FakeQuantised`."""
        reached = {name for name, _ in self.observers}
        layers = [
            name for name, module in self.modules.items() if isinstance(module, Layer) and name not in reached
        ]
        return [*layers, OUTSIDE] if self.outside else layers

    def _observe(self, name: str, kind: Kind, x: Tensor, values: Tensor | None) -> None:
        if (name, kind) not in self.observers:
            module = self.modules[name]
            self.observers[name, kind] = self.method.observer(kind, module if isinstance(module, Layer) else None)
        self.observers[name, kind].observe(x, values)

    def sites(self) -> list[Site]:
        """In the order in which they were reached."""
        found: dict[str, Site] = {}
        for (name, kind), observer in self.observers.items():
            module = self.modules[name]
            site = found.setdefault(name, Site(name, {}, module if isinstance(module, Layer) else None))
            site.quantisers[kind] = observer.quantiser()
        for site in found.values():
            if site.layer is not None:
                quantiser = site.quantisers["input"]
                # copies can be learned from, also if the run was in inference mode
                samples = [x.clone() for x in self.samples.pop(site.name)]
                site.weight = self.method.weight(site.layer, samples, quantiser)
        return list(found.values())


def quantise(model: nn.Module, method: Method, run: Callable[[], object]) -> FakeQuantised:
    """Fake-quantise a model in place: float32, on a CPU, fused if it has layers to fold.

    Layers and attentions that `run` does not reach stay as they are: see `FakeQuantised.left`.

    Args:
        model: any module.
        method: how.
        run: runs the model on the calibration data; without gradients.
    """
    with torch.no_grad():
        method.prepare(model, run)
    calibration = _Calibration(model, method)
    calibration.run(run)
    sites = calibration.sites()
    if not sites:
        raise ConfigError("the calibration data reach no layer that could be quantised")
    return attach(model, sites, calibration.left())


def attach(model: nn.Module, sites: list[Site], left: list[str]) -> FakeQuantised:
    """Quantise a model, in place, at sites that are known."""
    handles = [handle for site in sites for handle in site.attach(model.get_submodule(site.name))]
    return FakeQuantised(sites, handles, left)


def sensitivity(
    quantised: FakeQuantised, score: Callable[[], float], names: Callable[[str], str] = str
) -> list[tuple[str, float]]:
    """How much of a score is lost when one group of sites alone is quantised, largest loss first.

    Args:
        quantised: the model's sites.
        score: of the model as it is then, such as mask IoU; higher is better.
        names: from the name of a site to that of its group; each site for itself by default.
    """
    with quantised.only():
        whole = score()
    groups: dict[str, list[str]] = {}
    for site in quantised.sites:
        groups.setdefault(names(site.name), []).append(site.name)
    losses = []
    for group, members in groups.items():
        with quantised.only(*members):
            losses.append((group, whole - score()))
    return sorted(losses, key=lambda row: -row[1])
