"""Options of frozen dataclasses as text: `NAME:drm=3,stride=5`; no torch."""

import math
from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass, replace
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from samvideo.errors import ConfigError, shown

Config = TypeVar("Config")
WORDS = {"none": None, "true": True, "false": False}
_FORMS = {int: "a whole number", float: "a number", bool: "true or false", NoneType: "none", str: "a text"}


def options_of(config: Any) -> dict[str, Any]:
    """Fields of a config that can be given as text, and those of the configs in it, with their values."""
    types = get_type_hints(type(config))
    known: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            known |= options_of(value)
        elif _forms(types[field.name]):
            known[field.name] = value
    return known


def split_options(text: str) -> tuple[str, str | None]:
    """Split `NAME:OPTIONS`, in which the name has no equals sign; without options, the text as it is and None."""
    name, colon, options = text.partition(":")
    return (name.strip(), options) if colon and "=" not in name else (text.strip(), None)


def with_options(config: Config, options: str | None, owner: str, fixed: Collection[str] = ()) -> Config:
    """A config with options that are given as text.

    Args:
        config: with the defaults.
        options: `OPTION=VALUE,...`, or None for no options. Values are numbers, `true`, `false` and `none`, as the
            type of the field demands.
        owner: whose options they are, for errors, such as "memory policy 'fifo'".
        fixed: fields that are no options here.

    Raises:
        ConfigError: no such option, or a value that it does not take.
    """
    known = {name: value for name, value in options_of(config).items() if name not in fixed}
    listed = f"its options and their defaults are: {options_text(known)}"
    given: dict[str, str] = {}
    for part in options.split(",") if options is not None else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ConfigError(f"options of {owner} are given as OPTION=VALUE,..., not {shown(options)}; {listed}")
        if key not in known:
            raise ConfigError(f"{owner} has no option {shown(key)}; {listed}")
        if key in given:
            raise ConfigError(f"option {key!r} of {owner} is given twice: give it once")
        given[key] = value
    return _changed(config, given, owner, listed)


def _changed(config: Any, given: Mapping[str, str], owner: str, listed: str) -> Any:
    """The config with those of the given options that are in it."""
    types, changes = get_type_hints(type(config)), dict[str, Any]()
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            changed = _changed(value, given, owner, listed)
            changes |= {field.name: changed} if changed != value else {}
        elif field.name in given:
            try:
                changes[field.name] = _value(given[field.name], types[field.name])
            except ValueError:
                raise ConfigError(
                    f"option {field.name!r} of {owner} is {_expected(types[field.name])}, not "
                    f"{shown(given[field.name])}; {listed}"
                ) from None
    return replace(config, **changes)


def options_text(options: Mapping[str, Any], separator: str = ", ") -> str:
    """`drm=3, stride=5`."""
    return separator.join(f"{name}={_word(value)}" for name, value in options.items())


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
