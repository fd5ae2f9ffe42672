"""What clients send and are sent, beside `samvideo.io.tracks.FrameRecord`, the result of one frame."""

from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag

from samvideo.errors import shown
from samvideo.io.rle import decode_rle
from samvideo.io.tracks import Index, Label, ObjectId
from samvideo.serving.limits import Refusal
from samvideo.types import Box, Mask, Points, Prompt, VideoInfo

Number = Annotated[float, Field(ge=-1e9, le=1e9)]
Whole = Annotated[int, Field(ge=1, le=10**9)]
MAX_PROMPTS, MAX_CLICKS = 256, 1024


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CreateSession(_Message):
    """A new session with one of the served models, by default the first."""

    model: Annotated[str, Field(max_length=200)] | None = None


class Rle(_Message):
    """COCO RLE of a mask at the size of the frame: `size` is (height, width), `counts` the compressed string."""

    size: tuple[Whole, Whole]
    counts: str


class _Prompt(_Message):
    object_id: Annotated[ObjectId | None, Field(description="a known one is corrected; none: a new object")] = None
    label: Annotated[Label | None, Field(description="name of the object's class")] = None


class BoxPrompt(_Prompt):
    """A box: left, top, right, bottom in pixels of the frame."""

    box: tuple[Number, Number, Number, Number]


def _check_pairs(points: Any) -> Any:
    """ValueError for the likely mistake of one click without the list around it."""
    if isinstance(points, list) and points and isinstance(points[0], (int, float)):
        raise ValueError(f"a list of [x, y] expected, such as [{shown(points[:2])}]")
    return points


class PointsPrompt(_Prompt):
    """Clicks (x, y) in pixels of the frame; label 1 is on the object, 0 is not, all 1 by default."""

    points: Annotated[
        list[tuple[Number, Number]], Field(min_length=1, max_length=MAX_CLICKS), BeforeValidator(_check_pairs)
    ]
    labels: Annotated[list[Literal[0, 1]], Field(max_length=MAX_CLICKS)] | None = None


class MaskPrompt(_Prompt):
    """The object's mask."""

    mask: Rle


def _kind(entry: Any) -> str | None:
    """Which kind of prompt it is, by its field, so that validation errors name that kind only."""
    given = [kind for kind in ("box", "points", "mask") if isinstance(entry, dict) and kind in entry]
    return given[0] if len(given) == 1 else None


AnyPrompt = Annotated[
    Annotated[BoxPrompt, Tag("box")] | Annotated[PointsPrompt, Tag("points")] | Annotated[MaskPrompt, Tag("mask")],
    Discriminator(_kind, "prompt", "it should be an object with one of box, points and mask"),
]


class Prompts(_Message):
    """Prompts on the newest frame."""

    prompts: Annotated[list[AnyPrompt], Field(min_length=1, max_length=MAX_PROMPTS)]

    def check_masks(self, most: int) -> None:
        """Refusal, before they are decoded, for more masks than there may be objects, or two for one object."""
        ids = [entry.object_id for entry in self.prompts if isinstance(entry, MaskPrompt)]
        known = [object_id for object_id in ids if object_id is not None]
        if len(ids) > most:
            raise Refusal(409, f"{len(ids)} masks: at most {most} objects in a session, one mask each")
        if len(known) > len(set(known)):
            raise Refusal(422, "two masks for one object: one expected")

    def on_frame(self, size_wh: tuple[int, int]) -> list[Prompt]:
        """Prompts for a tracker; SamVideoError if a mask does not fit a frame of this size."""
        return [_prompt(entry, size_wh) for entry in self.prompts]


def _prompt(entry: BoxPrompt | PointsPrompt | MaskPrompt, size_wh: tuple[int, int]) -> Prompt:
    common: dict[str, Any] = {"object_id": entry.object_id, "label": entry.label}
    if isinstance(entry, BoxPrompt):
        return Box(entry.box, **common)
    if isinstance(entry, PointsPrompt):
        return Points(entry.points, entry.labels, **common)
    return Mask(decode_rle(entry.mask.model_dump(), size_wh), **common)


class Step(_Message):
    """Go to a frame of the uploaded video, by default the next one."""

    frame: Index | None = None


class Propagate(_Message):
    """Go on from the newest frame of the uploaded video, to its end or for a number of steps."""

    steps: Whole | None = None
    stride: Annotated[Whole, Field(description="every n-th frame")] = 1


class VideoFacts(_Message):
    """The uploaded video; `rate` is a fraction such as 30000/1001, `frames` what its header states."""

    width: int
    height: int
    rate: str
    frames: int | None

    @classmethod
    def of(cls, info: VideoInfo) -> "VideoFacts":
        """Describe a video."""
        width, height = info.size_wh
        return cls(width=width, height=height, rate=str(Fraction(info.rate)), frames=info.frame_count)


class SessionFacts(_Message):
    """A session: its id and model, the newest frame, the ids of its objects, and when it ends without requests."""

    id: str
    model: str
    frame: int | None
    objects: list[int]
    video: VideoFacts | None
    expires_in: Annotated[float, Field(description="seconds")]


class Health(_Message):
    """Whether the server takes new sessions."""

    status: Literal["UP", "ENDING"]
    models: list[str]
    sessions: int


class Failure(_Message):
    """Why a request is refused, in a sentence."""

    error: str
