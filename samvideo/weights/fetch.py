"""Downloads checkpoints into the user's cache: resumed, verified, never left incomplete.

A download grows in `<file>.part` and becomes `<file>` by one rename, after its size and checksum were verified.
Beside it, `<file>.json` holds its SHA-256 (with which later loads are compared, where none is published), and the
size and time of modification that it had when it was hashed last.
"""

import hashlib
import http.client
import json
import logging
import os
import time
import urllib.error
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock

from samvideo.errors import WeightsError
from samvideo.weights.catalog import Checkpoint
from samvideo.weights.contents import check_contents
from samvideo.weights.transfer import ATTEMPTS, CHUNK, Broken, Progress, Transfer

log = logging.getLogger(__name__)

CLOCK_TICK_NS = 3_000_000_000
"""No file system's clock is coarser: two writes that far apart have different times of modification."""


def weights_folder() -> Path:
    """Where checkpoints are cached: `$SAMVIDEO_HOME/weights`, else the user's cache folder."""
    home = os.environ.get("SAMVIDEO_HOME") or platformdirs.user_cache_dir("samvideo", appauthor=False)
    return Path(home) / "weights"


def cached_path(row: Checkpoint) -> Path:
    """Path of the file in the cache, whether or not it exists."""
    return weights_folder() / row.file_name


def fetch(row: Checkpoint, *, progress: Progress | None = None, recheck: bool = False) -> Path:
    """Return the verified local file, downloaded first if necessary, and again if the one in the cache is bad.

    A file is hashed once. Later calls compare its size and time of modification with those noted then, and hash it
    again if they differ, or with `recheck`. `progress` is called with the number of bytes present and expected
    (None if unknown).

    Raises:
        WeightsError: offline, not found, cut off, wrong checksum, disk full. What was downloaded stays in `.part`
            for the next attempt, except after a wrong checksum, or if it is not the file.
    """
    path = cached_path(row)
    if row.url is None and not path.exists():
        raise WeightsError(f"{row.name} cannot be downloaded: {row.note}")
    if not recheck and _is_verified(row, path):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        read_only = path.exists() and not os.access(path.parent, os.W_OK)  # a shared cache
        with nullcontext() if read_only else FileLock(f"{path}.lock"):
            if not _is_good(row, path, recheck):
                part = path.with_name(path.name + ".part")
                _download(row, part, progress)
                _accept(row, part, path)
    except OSError as error:
        raise WeightsError(
            f"cannot store {row.file_name} in {path.parent}: {error.strerror or error}; free about "
            f"{row.megabytes} MB there or set SAMVIDEO_HOME to another folder"
        ) from error
    return path


def _is_verified(row: Checkpoint, path: Path) -> bool:
    """Whether the cached file is as it was when it was hashed last."""
    return path.is_file() and _read_record(path).get("verified") == _fingerprint(row, path)


def _is_good(row: Checkpoint, path: Path, recheck: bool) -> bool:
    """Whether the cached file is there and verified; a bad one is reported, and downloaded again."""
    if not path.exists():
        return False
    if not recheck and _is_verified(row, path):  # by another process meanwhile
        return True
    try:
        verify(row)
    except WeightsError as error:
        if row.url is None:
            raise
        log.warning("%s; it is downloaded again", error)
        return False
    return True


def verify(row: Checkpoint) -> None:
    """Hash the cached file; WeightsError unless it has the published checksums and that of its first download."""
    path = cached_path(row)
    if not path.exists():
        raise WeightsError(f"{row.name} is not in {path.parent}: get it with `samvideo weights get {row.name}`")
    fingerprint = None
    with suppress(OSError):  # the file of another user, or a read-only folder
        fingerprint = _age(row, path)
    sha256 = _checked_sha256(row, path)
    recorded = _read_record(path).get("sha256", sha256)
    if recorded != sha256:
        raise WeightsError(
            f"{path} has changed since it was downloaded (its SHA-256 is not {recorded}): "
            f"get it again with `samvideo weights get {row.name}`"
        )
    if fingerprint is not None:
        with suppress(OSError):  # not recorded, it is hashed again next time
            _write_record(row, path, sha256, fingerprint)


def _download(row: Checkpoint, part: Path, progress: Progress | None) -> None:
    """Bring `part` to its full length, continuing where an earlier attempt stopped."""
    assert row.url is not None
    if row.restriction:
        log.warning("%s", row.restriction)
    transfer = Transfer(row.url, part, row.largest_bytes, progress)
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(0.2 * 2**attempt)
        try:
            if not transfer.attempt():
                _check_length_unknown(row, transfer)
            transfer.finish()
            return
        except Broken as error:
            reason = str(error)
        except urllib.error.HTTPError as error:
            if error.code == 416:  # the partial file is longer than the offered one
                transfer.discard()
            elif error.code < 500 and error.code not in (408, 425, 429):
                raise WeightsError(
                    f"{row.url} answered {error.code} {error.reason}: the file may have moved; download it by hand "
                    f"from {row.origin} and pass it with --weights FILE, or as {row.name}=FILE"
                ) from error
            reason = f"the server answered {error.code} {error.reason}"
        except urllib.error.URLError as error:
            raise WeightsError(
                f"{row.name} ({row.megabytes} MB) cannot be downloaded, no connection to {row.url} "
                f"({error.reason}): go online, or copy the file from elsewhere and pass it with --weights FILE, "
                f"or as {row.name}=FILE"
            ) from error
        except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
            reason = f"the connection broke ({error or type(error).__name__})"
    raise WeightsError(
        f"{row.url} could not be downloaded completely: {reason} after {transfer.have} bytes. "
        f"{'They are kept: repeat the command to resume' if transfer.have else 'Try again later'}"
    )


def _check_length_unknown(row: Checkpoint, transfer: Transfer) -> None:
    """Raise Broken unless a file whose length the server did not send is whole."""
    try:
        check_contents(transfer.part, row.parts)
    except WeightsError as error:
        transfer.discard()
        raise Broken(f"the server did not send the length, and {error}") from error


def _accept(row: Checkpoint, part: Path, path: Path) -> None:
    fingerprint = _age(row, part)
    try:
        sha256 = _checked_sha256(row, part)
    except WeightsError:
        part.unlink()
        raise
    _write_record(row, path, sha256, fingerprint)
    part.replace(path)


def _checked_sha256(row: Checkpoint, path: Path) -> str:
    """Return the SHA-256 of a file in hex digits; WeightsError unless its checksums are those published.

    Where none is published, it must at least hold the parameters of a model.
    """
    sha256 = hashlib.sha256()
    git_blob = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            sha256.update(block)
            git_blob.update(block)
    pairs = (("SHA-256", row.sha256, sha256.hexdigest()), ("git blob id", row.git_blob, git_blob.hexdigest()))
    for kind, expected, found in pairs:
        if expected is not None and found != expected:
            raise WeightsError(
                f"{path.name} is not the published file: its {kind} is {found}, expected {expected}. "
                f"Get it again with `samvideo weights get {row.name}`; if that fails too, the publisher changed it"
            )
    if row.sha256 is None and row.git_blob is None:
        try:
            check_contents(path, row.parts)
        except WeightsError as error:
            raise WeightsError(f"{error}: get it again with `samvideo weights get {row.name}`") from error
    return sha256.hexdigest()


def _fingerprint(row: Checkpoint, path: Path) -> dict[str, Any]:
    """Return what must stay equal for a file to count as verified."""
    stat = path.stat()
    published = [row.sha256, row.git_blob, "contents"]  # the last: earlier versions did not look into the file
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "published": published}


def _age(row: Checkpoint, path: Path) -> dict[str, Any]:
    """Return the fingerprint of a file, made old enough that any later write changes its time of modification."""
    old = time.time_ns() - CLOCK_TICK_NS
    if path.stat().st_mtime_ns > old:
        os.utime(path, ns=(old, old))
    return _fingerprint(row, path)


def _record_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _read_record(path: Path) -> dict[str, Any]:
    """Return the record of a file; empty if there is none, or none that can be read."""
    try:
        record = json.loads(_record_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _write_record(row: Checkpoint, path: Path, sha256: str, fingerprint: dict[str, Any]) -> None:
    record = {"sha256": sha256, "url": row.url, "licence": row.licence, "verified": fingerprint}
    temporary = _record_path(path).with_suffix(".tmp")
    temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    temporary.replace(_record_path(path))
