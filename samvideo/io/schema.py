"""JSON from outside, checked against a schema: every malformed value gives one sentence."""

import codecs
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from samvideo.errors import SamVideoError

T = TypeVar("T")

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_json(path: Path, schema: TypeAdapter[T], expected: str, error: type[SamVideoError]) -> T:
    """Read a JSON file; see `parse_json`. `error` is also raised if the file cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise error(f"{path} cannot be read ({problem.strerror or problem}): {expected} expected") from problem
    return parse_json(content, schema, str(path), expected, error)


def parse_json(content: bytes, schema: TypeAdapter[T], place: str, expected: str, error: type[SamVideoError]) -> T:
    """Parse JSON in UTF-8, or in the encoding of its byte order mark.

    Args:
        content: the text.
        schema: what it must hold.
        place: file, and line if known, for the message.
        expected: what should be there, for the message.
        error: raised with place, field, value and `expected` if it is not JSON or does not fit the schema.
    """
    try:
        for mark, encoding in _MARKS:
            if content.startswith(mark):
                content = content.decode(encoding).encode()
                break
        return schema.validate_json(content)
    except UnicodeError as problem:
        raise error(f"{place} is not text in a Unicode encoding: {expected} expected") from problem
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        if first["type"] == "json_invalid":
            raise error(f"{place} is not JSON ({first['ctx']['error']}): {expected} expected") from problem
        field = ".".join(map(str, first["loc"])) or "the whole"
        raise error(
            f"{place}: {field} is {str(first['input'])[:60]!r}: {first['msg']}; {expected} expected"
        ) from problem
