"""JSON from outside, checked against a schema: every malformed value gives one sentence."""

import json
from collections.abc import Mapping
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
    return describe_fault(problem.errors(include_url=False)[0])


def describe_fault(first: Mapping[str, Any]) -> str:
    """As `first_fault`, from one of pydantic's details of errors."""
    if first["type"] == "json_invalid":
        return f" is not JSON ({first['ctx']['error']})"
    field = ".".join(map(str, first["loc"])) or "the document"
    if first["type"] == "missing":
        return f": {field} is missing"
    if first["type"] == "extra_forbidden":
        return f": {field} is not known"
    message = first["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    return f": {field} is {shown(first['input'])}: {message}"
