"""Finds components by listing their folder: the module of a family or method *is* its registry entry.

A component module has `VARIANTS`, a dict from variant name to a frozen config dataclass, and `build(config)`.
Variant names start with the module's name ("repvit-m1" lives in repvit.py), so only that module is imported.
Other distributions add modules through entry points whose name is the family's: groups "samvideo.encoders",
"samvideo.memory".
"""

import pkgutil
from dataclasses import fields, replace
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from samvideo.errors import ConfigError


def families(package: str) -> dict[str, str]:
    """Names of the component modules of a package and of its entry points, to where each is imported from."""
    listed = {m.name: f"{package}.{m.name}" for m in pkgutil.iter_modules(import_module(package).__path__)}
    listed.update({point.name: point.value for point in entry_points(group=package)})
    return listed


def variants(package: str, kind: str) -> dict[str, Any]:
    """All variants of one kind with their configs, sorted by name; imports every module of the package."""
    found: dict[str, Any] = {}
    for path in families(package).values():
        module = import_module(path)
        if getattr(module, "KIND", None) == kind:
            found.update(module.VARIANTS)
    return dict(sorted(found.items()))


def find(package: str, kind: str, name: str) -> tuple[ModuleType, Any]:
    """The module and the config of one variant.

    Raises:
        ConfigError: there is no such variant.
    """
    path = families(package).get(name.split("-")[0])
    if path is not None:
        module = import_module(path)
        if getattr(module, "KIND", None) == kind and name in module.VARIANTS:
            return module, module.VARIANTS[name]
    raise ConfigError(f"no {kind} is called {name!r}; there are: {', '.join(variants(package, kind))}")


def build(package: str, kind: str, name: str, **changes: Any) -> Any:
    """Build a variant, with some fields of its config changed.

    Raises:
        ConfigError: no such variant or field, or a value that the component refuses.
    """
    module, config = find(package, kind, name)
    known_fields = [field.name for field in fields(config)]
    unknown = sorted(set(changes) - set(known_fields))
    if unknown:
        known = ", ".join(known_fields)
        raise ConfigError(f"{kind} {name!r} has no option {unknown[0]!r}; it has: {known}")
    return module.build(replace(config, **changes))
