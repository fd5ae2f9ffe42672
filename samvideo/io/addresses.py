"""What FFmpeg is told to open."""

import re
from pathlib import Path

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_address(source: Path | str) -> bool:
    """Return whether `source` is an address, such as https://…, and not the path of a file."""
    return isinstance(source, str) and _ADDRESS.match(source) is not None


def url_of(source: Path | str) -> str:
    """Return an address as it is, a path as file:PATH: FFmpeg takes what precedes a colon for a protocol."""
    return str(source) if is_address(source) else f"file:{Path(source).expanduser()}"
