"""What a distillation keeps for validation of the data that it is given."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Generic, TypeVar

from samvideo.training import splits

T = TypeVar("T")
SHARE = 0.1
"""Of the scenes: so many are kept."""
MOST = 1 / 3
"""Of the pictures or clips: more are never kept."""
NAMES = 3
"""Scenes that are named in the log."""
_NUMBER = re.compile(r"[\W_]*\d+$")


@dataclass(frozen=True)
class Divided(Generic[T]):
    """Data on both sides.

    Attributes:
        train, validation: what is learned from, and what is measured on, in order.
        why: the rule by which they are divided, for the log.
    """

    train: list[T]
    validation: list[T]
    why: str


def scene(path: Path, folder: Path) -> str:
    """The scene of a picture: the folder that it is in or, directly in the given one, its name without a number."""
    inner = path.parent.relative_to(folder).as_posix()
    return _NUMBER.sub("", path.stem) if inner == "." else inner


def by_scene(items: Sequence[T], scenes: Sequence[str]) -> Divided[T]:
    """Keep a tenth of the scenes, which a digest of their names chooses; some, but never all.

    If these are none, or have more than a third of the items, the last scene is kept; if it has more than a third,
    too, the last tenth of the items is.

    Args:
        items: in the order of their names; of none, nothing is kept.
        scenes: of each of them; those of one scene are on one side.
    """
    count = len(items)
    chosen = {name for name in scenes if _position(name) < SHARE}
    kept, why = [name in chosen for name in scenes], "chosen by a digest of names"
    if count and not 0 < sum(kept) <= MOST * count:
        kept, why = [name == scenes[-1] for name in scenes], "the last by name"
    if sum(kept) > MOST * count:
        last = max(1, round(SHARE * count)) if count > 1 else 0
        kept, why = [row >= count - last for row in range(count)], "the last ones, since most are of one scene"
    train = [item for item, own in zip(items, kept, strict=True) if not own]
    names = sorted({name for name, own in zip(scenes, kept, strict=True) if own} - {""})
    listed = ", ".join(names[:NAMES]) + (", …" if len(names) > NAMES else "")
    validation = [item for item, own in zip(items, kept, strict=True) if own]
    return Divided(train, validation, f"{why} ({listed})" if listed else why)


def by_name(items: Sequence[T], names: Sequence[str]) -> Divided[T]:
    """Divide as `splits` says, by the names of the data sets that the models of this project are trained on."""
    sides = [splits.side(name) for name in names]
    train, validation = (
        [item for item, side in zip(items, sides, strict=True) if side == wanted]
        for wanted in ("train", "validation")
    )
    return Divided(train, validation, "by the split of this project's training")


def _position(name: str) -> float:
    """Map a name to [0, 1), evenly and always alike."""
    return int.from_bytes(sha256(f"distil {name}".encode()).digest()[:8], "big") / 2**64
