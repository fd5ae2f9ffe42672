"""Messages between page and server, checked and converted in one place. The page's only import of pydantic.

What a page sends is an edit, a command or a query; what it is sent is defined in `samvideo.web.state`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from samvideo.errors import PromptError
from samvideo.trackers.direction import Direction
from samvideo.web.annotations import AnnotationStore
from samvideo.web.state import Facts, FrameMasks, News, PageState

Whole = Annotated[int, Field(ge=0, le=10**9)]  # the video decides what is too large
Name = Annotated[str, Field(max_length=200)]  # characters; the store shortens it
T = TypeVar("T")


class _Message(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class AddObject(_Message):
    """Add an object; the answer has its id."""

    do: Literal["add"]
    name: Name = ""


class RenameObject(_Message):
    """Change an object's name."""

    do: Literal["rename"]
    object: Whole
    name: Name


class RemoveObject(_Message):
    """Remove an object with all its annotations."""

    do: Literal["remove"]
    object: Whole


class Clear(_Message):
    """Remove what was drawn for one object on one frame."""

    do: Literal["clear"]
    frame: Whole
    object: Whole


class SetBox(_Message):
    """Set an object's box, (x1, y1, x2, y2) in pixels of the video."""

    do: Literal["box"]
    frame: Whole
    object: Whole
    box: tuple[float, float, float, float]


class AddClick(_Message):
    """Add a click at (x, y) in pixels of the video; label 1 is on the object, 0 is not."""

    do: Literal["click"]
    frame: Whole
    object: Whole
    xy: tuple[float, float]
    label: Annotated[int, Field(ge=0, le=1)]


class History(_Message):
    """Go one step back, or forward again."""

    do: Literal["undo", "redo"]


class Track(_Message):
    """Start a pass, or continue the paused one."""

    kind: Literal["track"]
    direction: Direction = "forward"


class Stop(_Message):
    """Pause the pass, or end the command."""

    kind: Literal["pause", "finish"]


class FrameQuery(_Message, extra="ignore"):
    """A frame, as JPEG for a place `w` pixels wide."""

    index: Whole
    w: Whole = 1280


class MaskQuery(_Message, extra="ignore"):
    """Where an uploaded mask belongs."""

    frame: Whole
    object: Whole


Edit = AddObject | RenameObject | RemoveObject | Clear | SetBox | AddClick | History
Command = Track | Stop
EDIT: TypeAdapter[Edit] = TypeAdapter(Annotated[Edit, Field(discriminator="do")])
COMMAND: TypeAdapter[Command] = TypeAdapter(Annotated[Command, Field(discriminator="kind")])
FRAME, MASK = TypeAdapter(FrameQuery), TypeAdapter(MaskQuery)
_SENT: dict[type, TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in (Facts, FrameMasks, News, PageState)}


def decode(adapter: TypeAdapter[T], data: bytes | Mapping[str, Any]) -> T:
    """Decode JSON, or the parameters of an address. Raises PromptError with field, expectation and value."""
    try:
        if isinstance(data, bytes):
            return adapter.validate_json(data)
        return adapter.validate_strings(dict(data))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "request"
        raise PromptError(f"{field}: {first['msg']}, not {first['input']!r:.60}") from None


def encode(value: Facts | FrameMasks | News | PageState) -> bytes:
    """Encode as JSON."""
    return _SENT[type(value)].dump_json(value)


def schema() -> dict[str, Any]:
    """JSON schema with one property for each kind of message: `Edit`, `Command`, `Facts`, `News` and so on."""
    received = [("Edit", "validation", EDIT), ("Command", "validation", COMMAND)]
    sent = [(kind.__name__, "serialization", adapter) for kind, adapter in _SENT.items()]
    schemas, definitions = TypeAdapter.json_schemas([*received, *sent])  # type: ignore[list-item]
    return {**definitions, "properties": {name: found for (name, _), found in schemas.items()}}


def apply(edit: Edit, store: AnnotationStore) -> int | None:
    """Make an edit; the id of an added object. Raises PromptError when it is refused."""
    match edit:
        case AddObject():
            return store.add_object(edit.name)
        case RenameObject():
            store.rename(edit.object, edit.name)
        case RemoveObject():
            store.remove_object(edit.object)
        case Clear():
            store.clear(edit.frame, edit.object)
        case SetBox():
            store.set_box(edit.frame, edit.object, edit.box)
        case AddClick():
            store.add_click(edit.frame, edit.object, (*edit.xy, edit.label))
        case History():
            (store.undo if edit.do == "undo" else store.redo)()
    return None
