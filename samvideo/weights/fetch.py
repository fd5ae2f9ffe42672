"""Fetching checkpoints into the user's cache: resumed, verified, and never half there.

A download grows in `<file>.part` and becomes `<file>` by one rename, after its size and checksum were verified.
Beside it `<file>.json` keeps the SHA-256: where none is published, that of the first download, which later
loads are held to.
"""

import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path

import platformdirs
from filelock import FileLock

from samvideo.errors import WeightsError
from samvideo.weights.catalog import Checkpoint

Progress = Callable[[int, int | None], None]

CHUNK = 1 << 20
ATTEMPTS = 4


def weights_folder() -> Path:
    """Where checkpoints are cached: `$SAMVIDEO_HOME/weights`, else the user's cache folder."""
    home = os.environ.get("SAMVIDEO_HOME") or platformdirs.user_cache_dir("samvideo", appauthor=False)
    return Path(home) / "weights"


def cached_path(row: Checkpoint) -> Path:
    """Where the file lies once it is fetched."""
    return weights_folder() / row.file_name


def fetch(row: Checkpoint, *, progress: Progress | None = None, timeout: float = 20.0) -> Path:
    """The verified local file, downloaded first if need be.

    Args:
        row: which one.
        progress: called with the bytes there are and the bytes expected, None where unknown.
        timeout: seconds without an answer after which the server counts as out of reach.

    Raises:
        WeightsError: offline, not found, cut off, wrong checksum, disk full. What was loaded stays in `.part`
            for the next try, except after a wrong checksum.
    """
    path = cached_path(row)
    if row.url is None and not path.exists():
        raise WeightsError(f"{row.name} cannot be fetched: {row.note}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not path.exists():
                part = path.with_name(path.name + ".part")
                _download(row, part, progress, timeout)
                _accept(row, part, path)
            else:
                verify(row)
    except OSError as error:
        raise WeightsError(
            f"cannot store {row.file_name} in {path.parent}: {error.strerror or error}; free about "
            f"{row.megabytes} MB there or set SAMVIDEO_HOME to another folder"
        ) from error
    return path


def verify(row: Checkpoint) -> None:
    """Hold the cached file to the published checksum, or to the one recorded at its first download.

    Raises:
        WeightsError: it is not there, or differs.
    """
    path = cached_path(row)
    if not path.exists():
        raise WeightsError(f"{row.name} is not in {path.parent}: fetch it with `samvideo weights get {row.name}`")
    _check_published(row, path)
    recorded = _record_of(path)
    if recorded is None:
        _write_record(row, path)
    elif recorded != _sha256(path):
        raise WeightsError(
            f"{path} has changed since it was downloaded (its SHA-256 is not {recorded}): "
            "delete it and fetch it again"
        )


def _download(row: Checkpoint, part: Path, progress: Progress | None, timeout: float) -> None:
    """Bring `part` to its full length, going on where an earlier try stopped."""
    assert row.url is not None
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(0.2 * 2**attempt)
        try:
            if _transfer(row.url, part, progress, timeout):
                return
            reason = "the connection was cut off"
        except urllib.error.HTTPError as error:
            if error.code == 416:  # what is there is not a beginning of what is offered
                part.unlink(missing_ok=True)
            elif error.code < 500 and error.code != 429:
                raise WeightsError(
                    f"{row.url} answered {error.code} {error.reason}: the file may have moved; download it by hand "
                    f"from {row.origin} and pass it with --weights FILE"
                ) from error
            reason = f"the server answered {error.code} {error.reason}"
        except urllib.error.URLError as error:
            raise WeightsError(
                f"{row.name} ({row.megabytes} MB) cannot be fetched, no connection to {row.url} ({error.reason}): "
                f"go online, or bring the file over and pass it with --weights FILE"
            ) from error
        except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
            reason = f"the connection broke ({error or type(error).__name__})"
    size = part.stat().st_size if part.exists() else 0
    raise WeightsError(
        f"{row.url} could not be fetched whole: {reason} after {size} bytes. "
        "They are kept: the same command goes on"
    )


def _transfer(url: str, part: Path, progress: Progress | None, timeout: float) -> bool:
    """One request; True when the file is whole afterwards."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "samvideo", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout) as answer:
        resumed = answer.status == 206
        have = have if resumed else 0
        length = answer.headers.get("Content-Length")
        expected = have + int(length) if length else None
        with part.open("ab" if resumed else "wb") as file:
            while block := answer.read(CHUNK):
                file.write(block)
                have += len(block)
                if progress:
                    progress(have, expected)
    return expected is None or have == expected


def _accept(row: Checkpoint, part: Path, path: Path) -> None:
    try:
        _check_published(row, part)
    except WeightsError:
        part.unlink()
        raise
    _write_record(row, path, of=part)
    part.replace(path)


def _check_published(row: Checkpoint, path: Path) -> None:
    pairs = ((row.sha256, _sha256, "SHA-256"), (row.git_blob, _git_blob, "git blob id"))
    for expected, digest, kind in pairs:
        if expected is not None and (found := digest(path)) != expected:
            raise WeightsError(
                f"{path.name} is not the published file: its {kind} is {found}, expected {expected}. "
                f"Delete {path} if it is there and fetch it again; if that fails too, the publisher changed it"
            )


def _record_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _record_of(path: Path) -> str | None:
    try:
        return str(json.loads(_record_path(path).read_text())["sha256"])
    except (OSError, ValueError, KeyError):
        return None


def _write_record(row: Checkpoint, path: Path, of: Path | None = None) -> None:
    record = {"sha256": _sha256(of or path), "url": row.url, "licence": row.licence}
    temporary = _record_path(path).with_suffix(".tmp")
    temporary.write_text(json.dumps(record, indent=2) + "\n")
    temporary.replace(_record_path(path))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return _digest(file, hashlib.sha256())


def _git_blob(path: Path) -> str:
    start = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        return _digest(file, start)


def _digest(file: BufferedReader, digest: "hashlib._Hash") -> str:
    while block := file.read(CHUNK):
        digest.update(block)
    return digest.hexdigest()
