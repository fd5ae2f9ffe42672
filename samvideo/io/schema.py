"""JSON from outside, checked against a schema: every malformed value gives one sentence."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from samvideo.errors import SamVideoError, shown

T = TypeVar("T")


def read_json(path: Path, schema: TypeAdapter[T], expected: str, error: type[SamVideoError]) -> T:
    """Read a JSON file; see `parse_json`. `error` is also raised if the file cannot be read."""
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as problem:  # a ValueError for a path with a NUL
        reason = problem.strerror if isinstance(problem, OSError) else problem
        raise error(f"{path} cannot be read ({reason}): {expected} expected") from problem
    return parse_json(content, schema, str(path), expected, error)


def parse_json(content: bytes, schema: TypeAdapter[T], place: str, expected: str, error: type[SamVideoError]) -> T:
    """Parse JSON in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Args:
        content: the text.
        schema: what it must hold.
        place: file, and line if known, for the message.
        expected: what should be there, for the message.
        error: raised with place, field, value and `expected` if it is not JSON or does not fit the schema.
    """
    try:
        encoding = json.detect_encoding(content)
        return schema.validate_json(content if encoding == "utf-8" else content.decode(encoding).encode())
    except UnicodeError as problem:
        raise error(f"{place} is not text in a Unicode encoding: {expected} expected") from problem
    except ValidationError as problem:
        raise error(f"{place}{first_fault(problem)}; {expected} expected") from problem


def first_fault(problem: ValidationError) -> str:
    """Describe the first value that does not fit, to follow the name of a file: `: video.width is 0: …`."""
    return describe_fault(problem.errors(include_url=False))


def describe_fault(errors: Sequence[Mapping[str, Any]]) -> str:
    """As `first_fault`, from pydantic's details of all errors."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return f" is not JSON ({first['ctx']['error']})"
    field = _field(first["loc"])
    if first["type"] == "missing" and isinstance(first["loc"][-1], int):  # a list of fixed length is too short
        expected = sum(error["loc"][:-1] == first["loc"][:-1] for error in errors) + first["loc"][-1]
        return f": {_field(first['loc'][:-1])} has length {len(first['input'])}: {expected} expected"
    if first["type"] == "missing":
        return f": {field} is missing"
    if first["type"] == "too_long" and first["ctx"]["field_type"] == "Tuple":
        return f": {field} has length {len(first['input'])}: {first['ctx']['max_length']} expected"
    if first["type"] == "extra_forbidden":
        return f": {field} is not known"
    message = first["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    return f": {field} is {shown(first['input'])}: {message.replace('a valid tuple', 'a list')}"


def _field(place: Sequence[str | int]) -> str:
    """Where a value is: `prompts.0.box`."""
    return ".".join(map(str, place)) or "the document"
