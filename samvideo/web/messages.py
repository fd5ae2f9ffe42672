"""Messages between page and server, checked and converted in one place. The page's only import of pydantic.

What a page sends is an edit, a command or a query; what it is sent is defined in `samvideo.web.state`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from samvideo.errors import PromptError
from samvideo.trackers.direction import Direction
from samvideo.types import BoolArray
from samvideo.web import painting
from samvideo.web.annotations import MAX_OBJECTS, AnnotationStore
from samvideo.web.proposing import TakenMasks
from samvideo.web.state import Facts, FrameMasks, News, PageState, Proposals

Whole = Annotated[int, Field(ge=0, le=10**9)]  # the video decides what is too large
Name = Annotated[str, Field(max_length=200)]  # characters; the store shortens it
# A brush may leave the frame.
Place = tuple[Annotated[float, Field(ge=-1e5, le=1e5)], Annotated[float, Field(ge=-1e5, le=1e5)]]
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


class Paint(_Message):
    """Add a brush's stroke through `points` to the mask that is shown, or erase it; in pixels of the video."""

    do: Literal["paint"]
    frame: Whole
    object: Whole
    points: Annotated[tuple[Place, ...], Field(min_length=1, max_length=4000)]
    radius: Annotated[float, Field(ge=0.5, le=500)]
    erase: bool = False


class Polygon(_Message):
    """Add the inside of a polygon to the mask that was drawn, in pixels of the video."""

    do: Literal["polygon"]
    frame: Whole
    object: Whole
    points: Annotated[tuple[Place, ...], Field(min_length=3, max_length=4000)]


class Take(_Message):
    """Add objects with the masks and labels of proposals; the answer has the first one's id, the others follow."""

    do: Literal["take"]
    key: Whole
    rows: Annotated[tuple[Whole, ...], Field(min_length=1, max_length=MAX_OBJECTS)]


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


class Propose(_Message):
    """Look for objects on a frame: everything, or what texts name, such as "person; ball"."""

    frame: Whole
    texts: Annotated[str, Field(max_length=1000)] | None = None


class FrameQuery(_Message, extra="ignore"):
    """A frame, as JPEG for a place `w` pixels wide."""

    index: Whole
    w: Whole = 1280


class MaskQuery(_Message, extra="ignore"):
    """Where an uploaded mask belongs; without an object to a new one."""

    frame: Whole
    object: Whole | None = None


Edit = AddObject | RenameObject | RemoveObject | Clear | SetBox | AddClick | Paint | Polygon | Take | History
Command = Track | Stop
EDIT: TypeAdapter[Edit] = TypeAdapter(Annotated[Edit, Field(discriminator="do")])
COMMAND: TypeAdapter[Command] = TypeAdapter(Annotated[Command, Field(discriminator="kind")])
FRAME, MASK, PROPOSE = TypeAdapter(FrameQuery), TypeAdapter(MaskQuery), TypeAdapter(Propose)
Sent = Facts | FrameMasks | News | PageState | Proposals
_SENT: dict[type, TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in get_args(Sent)}


def decode(adapter: TypeAdapter[T], data: bytes | Mapping[str, Any]) -> T:
    """Decode JSON, or the parameters of an address. Raises PromptError with field, expectation and value."""
    try:
        if isinstance(data, bytes):
            return adapter.validate_json(data)
        return adapter.validate_strings(dict(data))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "request"
        raise PromptError(f"{field}: {first['msg']}, not {shortened(first['input'])}") from None


def shortened(value: object) -> str:
    """The first characters of a value's representation, also of one that Python refuses to write in full."""
    try:
        return f"{value!r:.60}"
    except ValueError:
        return "a number of thousands of digits"


def encode(value: Sent) -> bytes:
    """Encode as JSON."""
    return _SENT[type(value)].dump_json(value)


def schema() -> dict[str, Any]:
    """JSON schema with one property for each kind of message: `Edit`, `Command`, `Facts`, `News` and so on."""
    received = [
        ("Edit", "validation", EDIT),
        ("Command", "validation", COMMAND),
        ("Propose", "validation", PROPOSE),
    ]
    sent = [(kind.__name__, "serialization", adapter) for kind, adapter in _SENT.items()]
    schemas, definitions = TypeAdapter.json_schemas([*received, *sent])  # type: ignore[list-item]
    return {**definitions, "properties": {name: found for (name, _), found in schemas.items()}}


def apply(
    edit: Edit,
    store: AnnotationStore,
    shown: Callable[[int, int], BoolArray],
    proposed: Callable[[int, Sequence[int]], TakenMasks],
) -> int | None:
    """Make an edit; the id of an added object.

    Args:
        edit: the edit.
        store: where it is made.
        shown: the mask at the video's size that is shown on a frame for an object, which a brush changes.
        proposed: proposals of an answer, by its key and their rows.

    Raises:
        PromptError: it is refused.
    """
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
        case Paint(frame=frame, object=object_id):
            before = shown(frame, object_id)
            mask = painting.stroke(before, edit.points, edit.radius, erase=edit.erase)
            store.set_mask(frame, object_id, mask)
        case Polygon(frame=frame, object=object_id):
            store.set_mask(frame, object_id, painting.polygon(store.mask(frame, object_id), edit.points))
        case Take():
            frame, masks, labels = proposed(edit.key, edit.rows)
            first = store.next_id
            store.set_masks(frame, dict(enumerate(masks, first)), dict(enumerate(labels, first)))
            return first
        case History():
            (store.undo if edit.do == "undo" else store.redo)()
    return None
