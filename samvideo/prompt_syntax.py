"""Parses textual prompts such as `box=40,60,200,220@12#2`, and JSON files of prompts."""

import json
import re
from pathlib import Path
from typing import Any

from samvideo.errors import PromptError, VideoError
from samvideo.io.mask_pictures import FROM_FILE, MaskRule
from samvideo.io.masks import read_mask_objects
from samvideo.types import Box, Mask, Points, Prompt

GRAMMAR = """\
  box=X1,Y1,X2,Y2          left, top, right, bottom in pixels of the video as displayed
  points=X,Y/-X,Y/...      clicks; a leading minus means: not on the object
  mask=FILE.png            a black-and-white image (soft edges, alpha too), or one number per object
  FILE.json                a list of {"box" | "points" (+ "labels") | "mask", "object_id", "frame" | "seconds"}
each may end in @FRAME or @12.5s (default: the first tracked frame) and #ID (the object)"""

_TAIL = re.compile(r"(?:@(?P<seconds>\d+(?:\.\d*)?)s|@(?P<frame>\d+)|#(?P<object_id>\d+))$")


def parse_prompts(texts: list[str], rule: MaskRule = FROM_FILE) -> list[Prompt]:
    """Parse prompts written in `GRAMMAR`; PromptError for any other. `rule` is for the masks."""
    return [prompt for text in texts for prompt in _parse(text, rule)]


def _parse(text: str, rule: MaskRule) -> list[Prompt]:
    if text.lower().endswith(".json"):
        return load_prompts(Path(text), rule)
    kind, equals, rest = text.partition("=")
    if kind not in ("box", "points", "mask"):
        raise PromptError(f"cannot read the prompt {text!r}; expected\n{GRAMMAR}")
    if not equals:
        example = {"box": "box=40,60,200,220", "points": "points=120,140", "mask": "mask=first.png"}[kind]
        raise PromptError(
            f"--prompt {kind} needs coordinates here, for instance --prompt {example}; expected\n{GRAMMAR}"
        )
    tail: dict[str, Any] = {}
    while match := _TAIL.search(rest):
        key, value = next((k, v) for k, v in match.groupdict().items() if v is not None)
        if key in tail:
            raise PromptError(f"the prompt {text!r} has two {key} marks; expected one @ and one #")
        tail[key] = float(value) if key == "seconds" else int(value)
        rest = rest[: match.start()]
    if kind == "mask":
        return _mask_prompts(Path(rest), rule, **tail)
    try:
        return [_box(rest, tail) if kind == "box" else _points(rest, tail)]
    except ValueError:
        raise PromptError(f"cannot read the numbers of the prompt {text!r}; expected\n{GRAMMAR}") from None


def _box(text: str, tail: dict[str, Any]) -> Box:
    x1, y1, x2, y2 = (float(value) for value in text.split(","))
    return Box((x1, y1, x2, y2), **tail)


def _points(text: str, tail: dict[str, Any]) -> Points:
    xy, labels = [], []
    for click in text.split("/"):
        x, y = (float(value) for value in click.strip().removeprefix("-").split(","))
        xy.append((x, y))
        labels.append(0 if click.strip().startswith("-") else 1)
    return Points(xy, labels, **tail)


def _mask_prompts(path: Path, rule: MaskRule, object_id: int | None = None, **moment: Any) -> list[Prompt]:
    try:
        objects = read_mask_objects(path, rule)
    except VideoError as error:
        raise PromptError(str(error)) from error
    if not objects:
        raise PromptError(f"the mask {path} holds no object: at least one pixel above 0 expected")
    if len(objects) == 1:
        # A single object 1 gets the next free id, as a box would.
        (index, mask), *_ = objects.items()
        return [Mask(mask, object_id=object_id or (None if index == 1 else index), **moment)]
    if object_id is not None:
        raise PromptError(
            f"the mask {path} holds objects {sorted(objects)}, so #{object_id} cannot name them all: leave it out"
        )
    return [Mask(mask, object_id=index, **moment) for index, mask in sorted(objects.items())]


def load_prompts(path: Path, rule: MaskRule = FROM_FILE) -> list[Prompt]:
    """Read a JSON file of prompts, or raise PromptError; paths of masks are relative to it, `rule` is for them."""
    try:
        entries = json.loads(path.read_text())
    except OSError as error:
        raise PromptError(f"cannot read the prompts {path}: {error.strerror}") from error
    except ValueError as error:
        raise PromptError(f"{path} is not JSON: {error}") from error
    entries = entries.get("prompts") if isinstance(entries, dict) else entries
    if not isinstance(entries, list) or not entries:
        raise PromptError(f"{path} must hold a list of prompts, or an object with such a list under 'prompts'")
    return [prompt for entry in entries for prompt in _from_entry(entry, path, rule)]


def _from_entry(entry: Any, path: Path, rule: MaskRule) -> list[Prompt]:
    kinds = {"box": {"box"}, "points": {"points", "labels"}, "mask": {"mask"}}
    kind = next((kind for kind in kinds if isinstance(entry, dict) and kind in entry), None)
    allowed = kinds.get(kind or "", set()) | {"object_id", "frame", "seconds"}
    if kind is None or not set(entry) <= allowed:
        raise PromptError(f"{path}: {entry} is not a prompt; expected box, points or mask, and {sorted(allowed)}")
    common = {key: entry[key] for key in ("object_id", "frame", "seconds") if entry.get(key) is not None}
    try:
        if kind == "mask":
            return _mask_prompts(path.parent / entry["mask"], rule, **common)
        if kind == "box":
            return [Box(tuple(entry["box"]), **common)]
        return [Points(entry["points"], entry.get("labels"), **common)]
    except (TypeError, ValueError) as error:
        raise PromptError(f"{path}: {entry} is not a prompt: {error}") from error
