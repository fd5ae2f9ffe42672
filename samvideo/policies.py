"""Memory policies by name and options, as in `--policy dam4sam:drm=3,stride=5`; no torch."""

import math
from collections.abc import Mapping
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from samvideo.errors import ConfigError, shown
from samvideo.memory.base import MemoryPolicy, PolicyFacts
from samvideo.registry import MEMORY_POLICIES

REFERENCE = "fifo"
"""The policy whose options most others have as well, and to whose cost theirs is compared."""
WORDS = {"none": None, "true": True, "false": False}
_FORMS = {int: "a whole number", float: "a number", bool: "true or false", NoneType: "none", str: "a text"}


def parse_policy(text: str) -> MemoryPolicy:
    """The policy of `NAME` or `NAME:OPTION=VALUE,...`; options are the fields of the policy's config.

    Values are numbers, `true`, `false` and `none`, as the type of the field demands.

    Raises:
        ConfigError: no such policy or option, or a value that it does not take.
    """
    name, options = _parse(text)
    try:
        policy: MemoryPolicy = MEMORY_POLICIES.build(name, **options)
    except ConfigError as error:
        raise ConfigError(f"policy {shown(text)}: {error}") from None
    return policy


def policy_text(text: str) -> str:
    """The one form of equal policies: options in the order of the config, without those that have their defaults.

    Raises:
        ConfigError: see `parse_policy`.
    """
    parse_policy(text)
    name, options = _parse(text)
    known = policy_options(name)
    changed = [f"{key}={_word(options[key])}" for key in known if options.get(key, known[key]) != known[key]]
    return f"{name}:{','.join(changed)}" if changed else name


def policy_options(name: str) -> dict[str, Any]:
    """Options that can be given as text, with their defaults.

    Raises:
        ConfigError: there is no policy of that name.
    """
    config = MEMORY_POLICIES.find(name)
    types = get_type_hints(type(config))
    return {f.name: getattr(config, f.name) for f in fields(config) if _forms(types[f.name])}


def policy_facts(name: str) -> PolicyFacts:
    """What a policy does, its source and its cost: the `FACTS` of its module, else the title of that."""
    module = MEMORY_POLICIES.module(name)
    title = (module.__doc__ or "-").strip().splitlines()[0].removesuffix(".")
    facts: PolicyFacts = getattr(module, "FACTS", PolicyFacts(title))
    return facts


def options_text(options: Mapping[str, Any]) -> str:
    """`drm=3, stride=5`."""
    return ", ".join(f"{name}={_word(value)}" for name, value in options.items())


def _parse(text: str) -> tuple[str, dict[str, Any]]:
    name, colon, rest = (part.strip() for part in text.partition(":"))
    known = policy_options(name)
    listed = f"its options and their defaults are: {options_text(known)}"
    types = get_type_hints(type(MEMORY_POLICIES.find(name)))
    options: dict[str, Any] = {}
    for part in rest.split(",") if colon else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ConfigError(
                f"options of a policy are given as {name}:OPTION=VALUE,..., not {shown(text)}; {listed}"
            )
        if key not in known:
            raise ConfigError(f"memory policy {name!r} has no option {shown(key)}; {listed}")
        if key in options:
            raise ConfigError(f"option {key!r} is given twice in {shown(text)}: give it once")
        try:
            options[key] = _value(value, types[key])
        except ValueError:
            raise ConfigError(
                f"option {key!r} of memory policy {name!r} is {_expected(types[key])}, not {shown(value)}; {listed}"
            ) from None
    return name, options


def _forms(kind: Any) -> tuple[Any, ...]:
    """The types of a field that a text can stand for, and the texts it may be; empty for other fields."""
    if get_origin(kind) in (Union, UnionType):
        return tuple(form for one in get_args(kind) for form in _forms(one))
    if get_origin(kind) is Literal:
        return tuple(choice for choice in get_args(kind) if isinstance(choice, str))
    return (kind,) if kind in _FORMS else ()


def _expected(kind: Any) -> str:
    return " or ".join(_FORMS.get(form, repr(form)) for form in _forms(kind))


def _value(text: str, kind: Any) -> Any:
    """A text as a value of a field's type; ValueError if it is none."""
    forms = _forms(kind)
    for form in forms:
        if form == text or form is str:
            return text
        if form in (bool, NoneType) and isinstance(WORDS.get(text, text), form):
            return WORDS[text]
        if form in (int, float):
            try:
                value = form(text)
            except ValueError:
                continue
            if math.isfinite(value):
                return value
    raise ValueError(text)


def _word(value: Any) -> str:
    """The text of a value."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
