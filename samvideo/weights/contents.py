"""A look into a checkpoint without torch and without running it: is it whole, and are they a model's parameters?"""

import io
import pickletools
import zipfile
from pathlib import Path

from samvideo.errors import WeightsError

HEAD = 1 << 22  # bytes in which a checkpoint of the old form names its parameters
PARTS = ("image_encoder.", "memory_attention.", "memory_encoder.", "sam_prompt_encoder.", "sam_mask_decoder.")
"""Every published checkpoint has parameters in all of these."""


def kind_of(head: bytes) -> str:
    """What a file is that begins like this, if it is no checkpoint; empty if it may be one."""
    start = head.lstrip()[:64].lower()
    if head.startswith((b"PK\x03\x04", b"\x80")):
        return ""
    if not head:
        return "an empty file"
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<script")):
        return "a web page"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer"
    return f"something else, which begins with {head[:16]!r},"


def check_contents(path: Path) -> None:
    """Raise WeightsError if a file is cut off, damaged, or does not hold the parameters of a SAM 2 model."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if kind := kind_of(head):
        raise WeightsError(f"{path.name} is {kind} instead of a checkpoint")
    try:
        names = _strings(_index_of(path) if head.startswith(b"PK") else head)
    except Exception as error:  # of a damaged file: any kind
        raise WeightsError(f"{path.name} is cut off or damaged ({error or type(error).__name__})") from error
    missing = [part for part in PARTS if not any(name.startswith((part, f"module.{part}")) for name in names)]
    if missing:
        raise WeightsError(f"{path.name} is no checkpoint of a SAM 2 model: it has no parameter {missing[0]}*")


def _index_of(path: Path) -> bytes:
    """The pickle in a zip file that names the parameters; the checksums of all its parts are compared."""
    with zipfile.ZipFile(path) as archive:
        if (broken := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"{broken} is damaged")
        entry = next(entry for entry in archive.infolist() if entry.filename.endswith("/data.pkl"))
        if entry.file_size > path.stat().st_size:
            raise zipfile.BadZipFile(f"{entry.filename} unpacks into {entry.file_size:,} bytes")
        return archive.read(entry)


def _strings(pickled: bytes) -> set[str]:
    """All texts in a row of pickles, which are parsed but not run; the last one may be cut off."""
    stream, found = io.BytesIO(pickled), set()
    try:
        while stream.tell() < len(pickled):
            for _, argument, _ in pickletools.genops(stream):
                if isinstance(argument, str):
                    found.add(argument)
    except ValueError:  # what follows the pickles of the old form: the numbers
        pass
    return found
