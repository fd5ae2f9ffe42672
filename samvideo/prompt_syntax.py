"""Parses textual prompts such as `box=40,60,200,220@12#2`, and JSON files of prompts."""

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, TypeAdapter

from samvideo.errors import PromptError, VideoError
from samvideo.io.mask_pictures import FROM_FILE, MaskRule
from samvideo.io.masks import read_mask_objects
from samvideo.io.schema import read_json
from samvideo.moments import parse_moment
from samvideo.types import Box, Mask, Points, Prompt

log = logging.getLogger(__name__)

GRAMMAR = """\
  box=X1,Y1,X2,Y2          left, top, right, bottom in pixels of the video as displayed
  points=X,Y/-X,Y/...      clicks; a leading minus means: not on the object
  mask=FILE.png            a black-and-white image (soft edges, alpha too), or one number per object
  FILE.json                a list of {"box" | "points" (+ "labels") | "mask", "object_id", "label",
                           "frame" | "seconds"}
each may end in @FRAME, @12.5s or @1:02.5 (default: the first tracked frame) and #ID, #ID:LABEL or #:LABEL (the
object, and the name of its class, such as grasper)"""

_MARK = re.compile(r"[@#][^@#]*$")
# names of files contain @ and # themselves
_MARK_OF_FILE = re.compile(r"(?:@[\d:.]+s?|#\d+|#\d*:[^@#/\\]*)$", re.ASCII)


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
    pattern = _MARK_OF_FILE if kind == "mask" else _MARK
    tail: dict[str, Any] = {}
    while match := pattern.search(rest):
        mark = _mark(match[0], text)
        if twice := mark.keys() & tail:
            raise PromptError(f"the prompt {text!r} has two {min(twice)} marks; expected one @ and one #")
        tail |= mark
        rest = rest[: match.start()]
    if kind == "mask":
        return _mask_prompts(Path(rest), rule, **tail)
    try:
        prompt = _box(rest, tail) if kind == "box" else _points(rest, tail)
    except ValueError:
        raise PromptError(f"cannot read the numbers of the prompt {text!r}; expected\n{GRAMMAR}") from None
    return [_warned_of_shares(prompt)]


def _mark(mark: str, text: str) -> dict[str, Any]:
    """Parse `@12`, `@1:02.5`, `#2`, `#2:grasper` or `#:grasper` to arguments of a prompt."""
    value = mark[1:]
    if mark[0] == "@":
        moment = parse_moment(value, PromptError)
        assert moment is not None
        return {"frame" if isinstance(moment, int) else "seconds": moment}
    number, colon, label = value.partition(":")
    found: dict[str, Any] = {"label": label} if colon else {}
    if colon and not number:
        return found
    if not (number.isdecimal() and len(number) < 20):
        raise PromptError(
            f"the prompt {text!r} ends in {mark[:40]!r}: the number of an object, like #2 or #2:LABEL, expected"
        )
    return found | {"object_id": int(number)}


def _warned_of_shares(prompt: Box | Points) -> Box | Points:
    """Warn of a click that may be given as shares of the frame; several such clicks are refused."""
    if isinstance(prompt, Points) and prompt.xy.max() <= 1 and (prompt.xy % 1 != 0).any():
        log.warning("the click (%g, %g) is on the top-left pixel: coordinates are pixels", *prompt.xy[0])
    return prompt


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
        if object_id is None and index != 1:
            object_id = index
        return [Mask(mask, object_id=object_id, **moment)]
    if object_id is not None:
        raise PromptError(
            f"the mask {path} holds objects {sorted(objects)}, so #{object_id} cannot name them all: leave it out"
        )
    return [Mask(mask, object_id=index, **moment) for index, mask in sorted(objects.items())]


class _Entry(BaseModel):
    """One prompt of a file; the values are checked by `Box`, `Points` and `Prompt`."""

    model_config = ConfigDict(extra="forbid")
    box: Any = None
    points: Any = None
    labels: Any = None
    mask: str | None = None
    object_id: Any = None
    label: Any = None
    frame: Any = None
    seconds: Any = None


class _File(BaseModel):
    """Other fields, such as comments, are ignored."""

    prompts: list[_Entry]


class _ImagesFile(BaseModel):
    """For every image, and for those of a name."""

    prompts: list[_Entry] = []
    images: dict[str, list[_Entry]] = {}


@dataclass(frozen=True)
class ImagePrompts:
    """Prompts of images.

    Attributes:
        every: for all of them.
        named: beside these, by name of a file.
    """

    every: tuple[Prompt, ...] = ()
    named: Mapping[str, tuple[Prompt, ...]] = field(default_factory=dict)

    def of(self, name: str) -> tuple[Prompt, ...]:
        """The prompts of one image."""
        return (*self.every, *self.named.get(name, ()))

    @property
    def labelled(self) -> bool:
        """Whether an object has a label."""
        return any(prompt.label for prompt in chain(self.every, *self.named.values()))


def _as_object(content: Any) -> Any:
    return {"prompts": content} if isinstance(content, list) else content


_FILE: TypeAdapter[_File] = TypeAdapter(Annotated[_File, BeforeValidator(_as_object)])
_IMAGES_FILE: TypeAdapter[_ImagesFile] = TypeAdapter(Annotated[_ImagesFile, BeforeValidator(_as_object)])
_EXPECTED = "a list of {box | points (+ labels) | mask, object_id, label, frame | seconds}"
_EXPECTED_OF_IMAGES = (
    'a list of {box | points (+ labels) | mask, object_id, label}, or {"images": {NAME: such a list}},'
)


def prompt_files(texts: Iterable[str]) -> list[Path]:
    """Return the files that such prompts are read from: masks, and JSON files with their masks."""
    files = []
    for text in texts:
        kind, _, rest = text.partition("=")
        if text.lower().endswith(".json"):
            path = Path(text)
            content = read_json(path, _IMAGES_FILE, _EXPECTED, PromptError)
            entries = [*content.prompts, *chain.from_iterable(content.images.values())]
            files += [path, *(path.parent / entry.mask for entry in entries if entry.mask is not None)]
        elif kind == "mask" and rest:
            while match := _MARK_OF_FILE.search(rest):
                rest = rest[: match.start()]
            files.append(Path(rest))
    return files


def load_prompts(path: Path, rule: MaskRule = FROM_FILE) -> list[Prompt]:
    """Read a JSON file of prompts, or raise PromptError; paths of masks are relative to it, `rule` is for them."""
    entries = read_json(path, _FILE, _EXPECTED, PromptError).prompts
    if not entries:
        raise PromptError(f"{path} holds no prompt: {_EXPECTED} expected")
    return _from_entries(entries, path, "prompts", rule)


def parse_image_prompts(texts: Iterable[str], rule: MaskRule = FROM_FILE) -> ImagePrompts:
    """Parse prompts of images, written in `GRAMMAR` but without frames and times; PromptError for any other.

    A JSON file may hold `{"images": {NAME: list of prompts}}`, for files of these names.
    """
    every: list[Prompt] = []
    named: dict[str, tuple[Prompt, ...]] = {}
    for text in texts:
        if not text.lower().endswith(".json"):
            every += _untimed(_parse(text, rule), text)
            continue
        path = Path(text)
        content = read_json(path, _IMAGES_FILE, _EXPECTED_OF_IMAGES, PromptError)
        if not content.prompts and not any(content.images.values()):
            raise PromptError(f"{path} holds no prompt: {_EXPECTED_OF_IMAGES} expected")
        every += _untimed(_from_entries(content.prompts, path, "prompts", rule), f"{path}: prompts")
        for name, entries in content.images.items():
            place = f"images.{name}"
            own = _untimed(_from_entries(entries, path, place, rule), f"{path}: {place}")
            named[name] = (*named.get(name, ()), *own)
    return ImagePrompts(tuple(every), named)


def _untimed(prompts: list[Prompt], described: str) -> list[Prompt]:
    """The prompts; PromptError if one has a frame or time."""
    if any(prompt.frame is not None or prompt.seconds is not None for prompt in prompts):
        raise PromptError(f"{described}: images have no frame or time; leave it out, or use `samvideo track`")
    return prompts


def _from_entries(entries: Iterable[_Entry], path: Path, place: str, rule: MaskRule) -> list[Prompt]:
    return [p for number, entry in enumerate(entries) for p in _from_entry(entry, path, f"{place}.{number}", rule)]


def _from_entry(entry: _Entry, path: Path, place: str, rule: MaskRule) -> list[Prompt]:
    given = [kind for kind in ("box", "points", "mask") if getattr(entry, kind) is not None]
    common = {name: getattr(entry, name) for name in ("object_id", "label", "frame", "seconds")}
    try:
        if len(given) != 1 or (entry.labels is not None and given != ["points"]):
            raise PromptError("one of box, points (with labels or without) and mask expected")
        if entry.mask is not None:
            return _mask_prompts(path.parent / entry.mask, rule, **common)
        if entry.box is not None:
            return [Box(entry.box, **common)]
        return [_warned_of_shares(Points(entry.points, entry.labels, **common))]
    except PromptError as error:
        raise PromptError(f"{path}: {place}: {error}") from error
