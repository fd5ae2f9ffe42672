"""One file over HTTP: resumed only where it is the same file, limited in size and time."""

import http.client
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from samvideo.errors import WeightsError
from samvideo.weights.contents import kind_of

Progress = Callable[[int, int | None], None]

CHUNK = 1 << 20
ATTEMPTS = 4
TIMEOUT = 20.0  # seconds without a response after which the server counts as unreachable
SLOWEST = 4096  # bytes per second, over `WINDOW`; slower counts as a broken connection
WINDOW = 60.0  # seconds
LONGEST = 6 * 3600.0  # seconds for all attempts together


class Broken(Exception):
    """The transfer ended early; another attempt may go on."""


class Refused(WeightsError):
    """What the server gives is not the file."""


class Transfer:
    """Brings `part` to its full length, continuing where an earlier attempt or command stopped.

    Beside it, a note holds the address, the length and the server's mark (ETag or Last-Modified) of the file.

    Args:
        url: of the file.
        part: where it grows.
        limit: of its size in bytes.
        progress: called with the number of bytes present and expected (None if unknown).
    """

    def __init__(self, url: str, part: Path, limit: int, progress: Progress | None) -> None:
        self.url, self.part, self.limit = url, part, limit
        self._note = part.with_name(part.name + ".json")
        self._progress = progress or (lambda have, expected: None)
        self._deadline = time.monotonic() + LONGEST

    @property
    def have(self) -> int:
        """Bytes that are present."""
        return self.part.stat().st_size if self.part.exists() else 0

    def discard(self) -> None:
        """Delete what is present."""
        self.part.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def finish(self) -> None:
        """Delete the note."""
        self._note.unlink(missing_ok=True)

    def attempt(self) -> bool:
        """Make one request; return whether the server sent the length, without which the file may be incomplete.

        Raises:
            Broken: cut off, stalled, or not the same file as before; what is present stays if it is of use.
            WeightsError: another attempt would not help.
            urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException: as urllib.
        """
        note = self._read_note()
        if self.have and note.get("url") != self.url:
            self.discard()
        if self.have and self.have == note.get("total"):
            return True
        self._progress(self.have, None)
        with self._open(note) as answer:
            encoding = answer.headers.get("Content-Encoding", "identity")
            if encoding.lower() != "identity":
                raise WeightsError(f"{self.url} is sent in the encoding {encoding}: the plain file was asked for")
            resumed = answer.status == 206
            if not resumed:
                self.discard()
            total = self._total(answer.headers, note, resumed)
            if total is not None and total > self.limit:
                raise Refused(f"{self.url} has {total:,} bytes: at most {self.limit:,} expected")
            if not resumed:
                self._note.write_text(
                    json.dumps({"url": self.url, "total": total, "mark": _mark(answer.headers)}), encoding="utf-8"
                )
            try:
                with self.part.open("ab" if resumed else "wb") as file:
                    self._copy(answer, file, total)
            except Refused:
                self.discard()
                raise
        if self.have == 0:
            self.discard()
            raise Broken("the answer was empty")
        if total is not None and self.have != total:
            raise Broken("the connection was cut off")
        return total is not None

    def _open(self, note: Mapping[str, Any]) -> http.client.HTTPResponse:
        try:
            answer: http.client.HTTPResponse = urllib.request.urlopen(self._request(note), timeout=TIMEOUT)
        except (ValueError, http.client.InvalidURL) as error:
            raise WeightsError(
                f"{self.url} cannot be asked for: it, the address it leads to or that of the proxy is not valid "
                f"({error}); download it by hand and pass it with --weights FILE"
            ) from error
        return answer

    def _request(self, note: Mapping[str, Any]) -> urllib.request.Request:
        headers = {"User-Agent": "samvideo", "Accept-Encoding": "identity"}
        if self.have:
            headers["Range"] = f"bytes={self.have}-"
            mark = note.get("mark")
            if isinstance(mark, str) and not mark.startswith("W/"):
                headers["If-Range"] = mark  # the whole file, if it has changed
        return urllib.request.Request(self.url, headers=headers)

    def _total(self, headers: Any, note: Mapping[str, Any], resumed: bool) -> int | None:
        """Length of the whole file, None if the server does not send it; Broken if it gives another part of it."""
        if not resumed:
            length = headers.get("Content-Length", "")
            return int(length) if length.isascii() and length.isdigit() and len(length) < 20 else None
        found = re.fullmatch(r"bytes (\d{1,19})-\d{1,19}/(\d{1,19}|\*)", headers.get("Content-Range", "").strip())
        total = None if found is None or found[2] == "*" else int(found[2])
        same = note.get("mark") == _mark(headers) and note.get("total") in (None, total)
        if found is None or int(found[1]) != self.have or not same:
            self.discard()
            raise Broken("the server gave another part of the file, or of another file, than asked for")
        return total

    def _copy(self, answer: http.client.HTTPResponse, file: BinaryIO, total: int | None) -> None:
        have, began, before = file.tell(), time.monotonic(), file.tell()
        while block := answer.read1(CHUNK):
            if have == 0 and (kind := kind_of(block)):
                remedy = "log in to your network in a browser, or" if kind == "a web page" else "try later, or"
                raise Refused(
                    f"{self.url} gave {kind} instead of the file: {remedy} download it by hand and pass it with "
                    "--weights FILE"
                )
            have += len(block)
            if have > self.limit:
                raise Refused(f"{self.url} does not end: over {self.limit:,} bytes, more than the file has")
            file.write(block)
            self._progress(have, total)
            now = time.monotonic()
            if now > self._deadline:
                raise WeightsError(
                    f"{self.url} took over {LONGEST / 3600:.0f} hours; {have:,} bytes are kept: repeat the command "
                    "to resume"
                )
            if now - began > WINDOW:
                if have - before < SLOWEST * WINDOW:
                    raise Broken(f"the connection stalled, at under {SLOWEST} bytes a second")
                began, before = now, have

    def _read_note(self) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            note = json.loads(self._note.read_text(encoding="utf-8"))
            if isinstance(note, dict):
                return note
        return {}


def _mark(headers: Any) -> str | None:
    """What changes when the file does."""
    mark: str | None = headers.get("ETag") or headers.get("Last-Modified")
    return mark
