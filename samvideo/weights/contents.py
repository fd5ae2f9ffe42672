"""A look into a checkpoint without torch and without running it: is it whole, and are they a model's parameters?"""

import io
import json
import pickletools
import zipfile
from collections.abc import Sequence
from pathlib import Path

from samvideo.errors import WeightsError

HEAD = 1 << 22  # bytes in which a checkpoint of the old form, or in safetensors, names its parameters
SAM2_PARTS = ("image_encoder.", "memory_attention.", "memory_encoder.", "sam_prompt_encoder.", "sam_mask_decoder.")
"""Every published checkpoint of the SAM 2 family has parameters in all of these."""
HUB_PARTS = ("vision_encoder.", "prompt_encoder.", "mask_decoder.")
"""Likewise in the layout of Hugging Face transformers."""
PICKLED = (".pt", ".pth", ".ckpt", ".bin")
SUFFIXES = (*PICKLED, ".safetensors")
EXPANSION = 4
"""How many times its own size a zip file may unpack into: weights hardly shrink."""


def kind_of(head: bytes) -> str:
    """What a file is that begins like this, if it is not a checkpoint; empty if it may be one."""
    start = head.lstrip()[:64].lower()
    if head.startswith((b"PK\x03\x04", b"\x80")) or is_safetensors(head):
        return ""
    if not head:
        return "an empty file"
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<script")):
        return "a web page"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer"
    return f"something else, which begins with {head[:16]!r},"


def check_contents(path: Path, parts: Sequence[str] = SAM2_PARTS) -> None:
    """Raise WeightsError if a file is cut off, damaged, or lacks a part of the model's parameters.

    Args:
        path: the file.
        parts: beginnings of names, each of which some parameter has.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
    if kind := kind_of(head):
        raise WeightsError(f"{path.name} is {kind} instead of a checkpoint")
    try:
        names = _names(path, head)
    except Exception as error:  # of a damaged file: any kind
        raise WeightsError(f"{path.name} is cut off or damaged ({error or type(error).__name__})") from error
    if any(name.startswith(HUB_PARTS[0]) for name in names):
        parts = HUB_PARTS
    missing = [part for part in parts if not any(name.startswith((part, f"module.{part}")) for name in names)]
    if missing:
        raise WeightsError(f"{path.name} is not a checkpoint of this model: it has no parameter {missing[0]}*")


def inner_checkpoint(archive: zipfile.ZipFile) -> zipfile.ZipInfo | None:
    """The only checkpoint that was packed into a zip file; None if the zip file is a checkpoint itself.

    Raises:
        ValueError: there are several, or it unpacks into far more than its own size.
    """
    found = [entry for entry in archive.infolist() if entry.filename.lower().endswith(PICKLED)]
    found = [entry for entry in found if not entry.filename.startswith("__MACOSX/")]
    if any(entry.filename.endswith("/data.pkl") for entry in archive.infolist()) or not found:
        return None
    if len(found) > 1:
        raise ValueError(f"it holds {len(found)} checkpoints: unpack it and choose one")
    if found[0].file_size > EXPANSION * found[0].compress_size:
        raise ValueError(f"{found[0].filename} unpacks into {found[0].file_size:,} bytes")
    return found[0]


def is_safetensors(head: bytes) -> bool:
    """Whether a file begins with the length of a JSON header, and that header."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < HEAD


def _names(path: Path, head: bytes) -> set[str]:
    """All texts in the part of a checkpoint that names its parameters."""
    if is_safetensors(head):
        return _safetensors_names(path, head)
    if not head.startswith(b"PK"):
        return _strings(head)
    with zipfile.ZipFile(path) as archive:
        if (broken := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"{broken} is damaged")
        entry = inner_checkpoint(archive)
        if entry is None:
            return _strings(_index_of(archive, path.stat().st_size))
        with archive.open(entry) as packed, zipfile.ZipFile(packed) as inner:
            return _strings(_index_of(inner, entry.file_size))


def _safetensors_names(path: Path, head: bytes) -> set[str]:
    end = 8 + int.from_bytes(head[:8], "little")
    header = json.loads(head[8:end])
    header.pop("__metadata__", None)
    whole = end + max(entry["data_offsets"][1] for entry in header.values())
    if path.stat().st_size != whole:
        raise ValueError(f"{whole:,} bytes expected")
    return set(header)


def _index_of(archive: zipfile.ZipFile, size: int) -> bytes:
    """The pickle in a zip file that names the parameters."""
    entry = next(entry for entry in archive.infolist() if entry.filename.endswith("/data.pkl"))
    if entry.file_size > size:
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
