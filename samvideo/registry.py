"""Finds components: ours by listing a folder, those of other distributions by their entry points.

A component is a module with `VARIANTS`, a mapping from name to a frozen dataclass: the config of a network part,
or the spec of a tracker, data set or export format. The modules of network parts also have `build(config)`. If a
folder holds several kinds, as `memory/` does, each module needs `KIND`. An entry point refers to such a module.
Names should start with that of the module or entry point ("repvit-m1" is in repvit.py), which is then the only one
to be imported for them.
"""

import logging
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, Protocol, TypeVar, cast, runtime_checkable

from samvideo.errors import ConfigError

log = logging.getLogger(__name__)
T = TypeVar("T")


@runtime_checkable
class Component(Protocol):
    """A module that offers variants of one kind."""

    VARIANTS: Mapping[str, Any]


@dataclass(frozen=True)
class Registry(Generic[T]):
    """The components of one kind: modules of a package, and entry points of other distributions."""

    kind: str  # what messages call them, and the `KIND` of their modules
    package: str
    group: str = ""  # of the entry points; the name of the package if empty
    spec: type[T] = cast("type[T]", object)  # noqa: RUF009 - of the values of `VARIANTS`

    def all(self) -> dict[str, T]:
        """Import and return all components by name; broken plug-ins and repeated names are left out and logged."""
        found: dict[str, T] = {}
        owners: dict[str, EntryPoint] = {}
        for point in self._points():
            for name, spec in self._variants(point).items():
                if name in found:
                    self._warn_twice(name, owners[name], point)
                else:
                    found[name], owners[name] = spec, point
        return found

    def find(self, name: str) -> T:
        """Return the config or spec of a name; ConfigError, which lists the known names, if there is none."""
        return self._variants(self._point(name))[name]

    def module(self, name: str) -> Any:
        """Return the module that offers a name; ConfigError as of `find`."""
        return _load(self._point(name))

    def build(self, name: str, **changes: Any) -> Any:
        """Build a network part, with some fields of its config changed; ConfigError for a wrong name or field."""
        module = self.module(name)
        config: Any = module.VARIANTS[name]
        known = [field.name for field in fields(config)]
        if unknown := sorted(set(changes) - set(known)):
            raise ConfigError(
                f"{self.kind} {name!r} has no option {unknown[0]!r}; its options are: {', '.join(known)}"
            )
        return module.build(replace(config, **changes))

    def _points(self) -> list[EntryPoint]:
        """One entry point for each module: ours first, then those of other distributions in a fixed order."""
        group = self.group or self.package
        path = import_module(self.package).__path__
        own = [EntryPoint(m.name, f"{self.package}.{m.name}", group) for m in pkgutil.iter_modules(path)]
        return own + sorted(entry_points(group=group), key=lambda point: (_origin(point), point.name))

    def _point(self, name: str) -> EntryPoint:
        points = self._points()
        for likely in (True, False):
            chosen = [point for point in points if name.startswith(point.name.replace("_", "-")) == likely]
            owners = [point for point in chosen if name in self._variants(point)]
            for other in owners[1:]:
                self._warn_twice(name, owners[0], other)
            if owners:
                return owners[0]
        raise self._unknown(name)

    def _variants(self, point: EntryPoint) -> Mapping[str, T]:
        module = _load(point)
        if module is None or getattr(module, "KIND", self.kind) != self.kind:
            return {}
        if wrong := [name for name, spec in module.VARIANTS.items() if not isinstance(spec, self.spec)]:
            _warn(f"{_origin(point)} offers {self.kind} {wrong[0]!r}, not a {self.spec.__name__}: left out")
        return {name: spec for name, spec in module.VARIANTS.items() if name not in wrong}

    def _warn_twice(self, name: str, first: EntryPoint, second: EntryPoint) -> None:
        _warn(f"{_origin(first)} and {_origin(second)} both offer a {self.kind} {name!r}: the first one is used")

    def _unknown(self, name: str) -> ConfigError:
        known = list(self.all())
        near = get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]!r}? Known: " if near else "known: "
        broken = sorted({_origin(point) for point in self._points() if point.dist and _load(point) is None})
        note = f" (unusable plug-ins: {', '.join(broken)})" if broken else ""
        return ConfigError(f"there is no {self.kind} {name!r}; {hint}{', '.join(known)}{note}")


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "samvideo"


@cache
def _load(point: EntryPoint) -> Component | None:
    """Return the module of an entry point; None if it has no variants or, in another distribution, is broken."""
    try:
        module = point.load()
    except Exception as error:  # whatever a plug-in does, the rest must work
        if point.dist is None:
            raise
        _warn(f"{_origin(point)} is left out: {point.value} cannot be imported ({type(error).__name__}: {error})")
        return None
    if isinstance(module, Component):
        return module
    if point.dist is not None:
        _warn(f"{_origin(point)} is left out: {point.value} has no VARIANTS")
    return None


@cache  # once in a process
def _warn(message: str) -> None:
    log.warning(message)


ENCODERS: Registry[Any] = Registry("encoder", "samvideo.encoders")
HEADS: Registry[Any] = Registry("heads", "samvideo.heads")
NETWORKS: Registry[Any] = Registry("network", "samvideo.networks")
MEMORY_METHODS: Registry[Any] = Registry("memory method", "samvideo.memory")
MEMORY_POLICIES: Registry[Any] = Registry("memory policy", "samvideo.memory")
