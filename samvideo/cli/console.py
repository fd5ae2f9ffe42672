"""Standard output and standard error that never end a command with a traceback."""

import io
import os
import sys
from typing import Any, TextIO


class Stream(io.FileIO):
    """Standard output or error; what cannot be written (a closed pipe, a full disk) is discarded.

    `failure` is the first error of writing, or None.
    """

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write bytes, or keep the error and discard them."""
        try:
            return super().write(data)
        except OSError as error:
            self.failure = self.failure or error
            return memoryview(data).nbytes


def replace_streams() -> Stream | None:
    """Replace `sys.stdout` and `sys.stderr`; return the new standard output, None if it is a terminal.

    Characters that their encoding lacks are written as `\\uXXXX`.
    """
    sys.stdout, out = _replaced(sys.stdout)
    sys.stderr, _ = _replaced(sys.stderr)
    return out


def _replaced(stream: TextIO | None) -> tuple[TextIO, Stream | None]:
    if stream is None:  # closed; its number must not become that of a file
        raw = Stream(os.open(os.devnull, os.O_RDONLY), "w")
        return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8"), raw
    if not isinstance(stream, io.TextIOWrapper):
        return stream, None
    if stream.isatty():
        stream.reconfigure(errors="backslashreplace")
        return stream, None
    raw = Stream(stream.fileno(), "w", closefd=False)
    buffered = io.BufferedWriter(raw)
    errors, lines = "backslashreplace", stream.line_buffering
    return io.TextIOWrapper(buffered, stream.encoding, errors, line_buffering=lines), raw
