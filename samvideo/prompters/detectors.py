"""Detectors of boxes: published ones by name, from a folder, a file of boxes, or a function of the user's own."""

import importlib
import importlib.util
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from samvideo.errors import ConfigError, PromptError, shown
from samvideo.io.schema import read_json
from samvideo.prompters.boxes import Detections, Detector
from samvideo.types import FloatArray, UInt8Array

PUBLISHED: Mapping[str, str] = {
    "rt-detr": "PekingU/rtdetr_v2_r18vd",
    "d-fine": "ustc-community/dfine-small-coco",
    "owlv2": "google/owlv2-base-patch16-ensemble",
    "grounding-dino": "IDEA-Research/grounding-dino-tiny",
}
"""Short names of detectors on the Hugging Face Hub; code and weights of all of them are Apache-2.0."""
TORCHVISION = ("faster-rcnn", "mask-rcnn")
LONGEST = 100  # characters of a text
Number = Annotated[float, Field(allow_inf_nan=False)]


def load_detector(
    name: str, *, device: str = "auto", threshold: float | None = None, texts: Sequence[str] | None = None
) -> Detector:
    """Load a detector.

    Args:
        name: a short name (`PUBLISHED`, `TORCHVISION`); OWNER/NAME of an object detector on the Hugging Face Hub,
            also an open-vocabulary one; its folder; FILE.json, see `BoxesFile`; or MODULE:FUNCTION or
            FILE.py:FUNCTION, called with a uint8 (H, W, 3) image, which returns `Detections` or boxes (N, 4).
        device: see `samvideo.torch_runtime.resolve_device`.
        threshold: least score of a box, 0 to 1; None leaves it to the detector.
        texts: what to look for. An open-vocabulary detector needs them; others find only their classes of these
            names.

    Raises:
        ConfigError: there is no such detector, its library is not installed, or texts are missing or unknown to it.
        PromptError: the file of boxes is malformed.
        WeightsError: weights cannot be fetched or do not fit.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise ConfigError(f"the threshold of a detector is {threshold}: a number from 0 to 1 expected")
    wanted = None if texts is None else check_texts(texts)
    if name in TORCHVISION:
        from samvideo.prompters.rcnn import load_rcnn

        return load_rcnn(name, device, threshold, wanted)
    path = Path(name).expanduser()
    is_folder = bool(name) and path.is_dir()
    if name.lower().endswith(".json") and not is_folder:
        return BoxesFile.read(path, threshold, wanted)
    if name in PUBLISHED or is_folder or _is_address(name):
        from samvideo.prompters.huggingface import load_transformers

        address = str(path) if is_folder else PUBLISHED.get(name, name)
        return load_transformers(address, device, threshold, wanted)
    if ":" in name:
        return OwnDetector(_find_function(name), name, threshold, wanted)
    raise ConfigError(
        f"there is no detector {name!r}; known: {', '.join((*PUBLISHED, *TORCHVISION))}; or give OWNER/NAME of the "
        "Hugging Face Hub, a folder with a detector, a file of boxes FILE.json, or MODULE:FUNCTION"
    )


def parse_texts(texts: str) -> tuple[str, ...]:
    """Split texts such as `person; ball`; ConfigError if there is none."""
    return check_texts([text for text in texts.split(";") if text.strip()])


def check_texts(texts: Sequence[str]) -> tuple[str, ...]:
    """Return texts without surrounding spaces, each once; ConfigError if one is not text, or there is none."""
    if isinstance(texts, str):
        return parse_texts(texts)
    for text in texts:
        if not isinstance(text, str) or not text.strip() or len(text) > LONGEST or not text.isprintable():
            raise ConfigError(
                f"the text {shown(text)} cannot be looked for: 1 to {LONGEST} printable characters expected"
            )
    if not texts:
        raise ConfigError('no text to look for: give what to find, as in "person; ball"')
    return tuple(dict.fromkeys(text.strip() for text in texts))


def known_classes(name: str, classes: Sequence[str], texts: Sequence[str] | None) -> None:
    """Raise ConfigError, which lists the classes of a detector, if a text is none of them."""
    if unknown := [text for text in texts or () if text not in classes]:
        raise ConfigError(
            f"{name} knows no {unknown[0]!r}, but {', '.join(classes)}; an open-vocabulary detector, such as "
            "grounding-dino or owlv2, looks for any text"
        )


def chosen(found: Detections, threshold: float | None, texts: Sequence[str] | None) -> NDArray[np.int64]:
    """Return rows with at least this score (all where there are no scores) and one of these names."""
    rows = np.ones(len(found.boxes), bool)
    if threshold is not None and found.scores is not None:
        rows &= np.asarray(found.scores) >= threshold
    if texts is not None:
        if found.labels is None:
            raise ConfigError(f"this detector names no classes, so that {', '.join(texts)} cannot be looked for")
        rows &= np.array([label in texts for label in found.labels], bool)
    return np.flatnonzero(rows)


def selected(found: Detections, threshold: float | None, texts: Sequence[str] | None) -> Detections:
    """Return the `chosen` ones."""
    return found.select(chosen(found, threshold, texts))


@dataclass(frozen=True)
class OwnDetector:
    """A function of the user's own as a detector; its failures become ConfigError.

    Attributes:
        function: called with an image; returns `Detections`, or boxes (N, 4).
        name: for messages.
        threshold, texts: see `load_detector`.
    """

    function: Callable[[UInt8Array], Any]
    name: str
    threshold: float | None = None
    texts: tuple[str, ...] | None = None

    def __call__(self, rgb: UInt8Array) -> Detections:
        """Find boxes."""
        try:
            found = self.function(rgb)
            if not isinstance(found, Detections):
                boxes = np.asarray(found, np.float32)
                found = Detections(boxes.reshape(0, 4) if boxes.size == 0 else boxes)
        except ConfigError:
            raise
        except Exception as error:  # whatever the function of a user does
            raise ConfigError(f"the detector {self.name} failed with {type(error).__name__}: {error}") from error
        return selected(found, self.threshold, self.texts)


def _is_address(name: str) -> bool:
    """Whether it may be OWNER/NAME on the Hub."""
    owner, slash, rest = name.partition("/")
    return bool(slash and owner.strip(".") and rest) and not set(rest) & set("/:\\")


def _find_function(name: str) -> Callable[[UInt8Array], Any]:
    """The function of MODULE:FUNCTION or FILE.py:FUNCTION."""
    place, _, attribute = name.rpartition(":")
    try:
        if place.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(place).stem, Path(place).expanduser())
            assert spec
            assert spec.loader
            module = importlib.util.module_from_spec(spec)
            sys.modules.setdefault(spec.name, module)  # its dataclasses and pickles look there
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
        function = getattr(module, attribute)
    except Exception as error:  # whatever the import of a user's module does
        raise ConfigError(
            f"the detector {name!r} cannot be imported ({type(error).__name__}: {error}): MODULE:FUNCTION or "
            "FILE.py:FUNCTION expected"
        ) from error
    if not callable(function):
        raise ConfigError(f"the detector {name!r} is {shown(function)}: a function expected")
    return function


class _Entry(BaseModel):
    """One box of a file."""

    model_config = ConfigDict(extra="forbid")
    box: tuple[Number, Number, Number, Number]
    label: Annotated[str, Field(min_length=1, max_length=LONGEST)] | None = None
    score: Annotated[float, Field(ge=0, le=1)] | None = None


def _as_entry(value: Any) -> Any:
    return {"box": value} if isinstance(value, list) else value


_Entries = list[Annotated[_Entry, BeforeValidator(_as_entry)]]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    boxes: _Entries | None = None
    images: dict[str, _Entries] = Field(default_factory=dict)


def _as_file(content: Any) -> Any:
    return {"boxes": content} if isinstance(content, list) else content


_SCHEMA: TypeAdapter[_File] = TypeAdapter(Annotated[_File, BeforeValidator(_as_file)])
_EXPECTED = 'a list of [x1, y1, x2, y2] or {"box", "label", "score"}, or {"images": {NAME: such a list}},'


@dataclass(frozen=True)
class BoxesFile:
    """Boxes that were found before, as a detector: the same ones for every image, or by the name of the image.

    The JSON file holds a list of `[x1, y1, x2, y2]` or `{"box": [x1, y1, x2, y2], "label": NAME, "score": S}`, in
    pixels, or `{"images": {NAME: such a list}}`; label and score may be left out.

    Attributes:
        name: of the file, for messages.
        every: boxes of every image; None if they are by name.
        named: by name of an image.
    """

    name: str
    every: Detections | None = None
    named: Mapping[str, Detections] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, threshold: float | None = None, texts: Sequence[str] | None = None) -> "BoxesFile":
        """Read a file; PromptError if it is malformed. For the rest see `load_detector`."""
        content = read_json(path, _SCHEMA, _EXPECTED, PromptError)
        if (content.boxes is None) == (not content.images):
            raise PromptError(f"{path} holds no boxes, or boxes and images: {_EXPECTED} expected")

        def found(entries: Sequence[_Entry], place: str) -> Detections:
            return selected(_detections(entries, f"{path}: {place}"), threshold, texts)

        every = None if content.boxes is None else found(content.boxes, "boxes")
        named = {name: found(entries, f"images.{name}") for name, entries in content.images.items()}
        return cls(str(path), every, named)

    def __call__(self, rgb: UInt8Array) -> Detections:
        """Return the boxes; ConfigError if they are by name."""
        if self.every is None:
            raise ConfigError(f"{self.name} has boxes by the name of the image: a list of boxes expected here")
        return self.every

    def of(self, image: str) -> Detector:
        """Return the detector of one image, which finds nothing where the file does not name it."""
        found = self.named.get(image, Detections(np.zeros((0, 4), np.float32)))
        return self if self.every is not None else lambda rgb: found


def _detections(entries: Sequence[_Entry], place: str) -> Detections:
    """The boxes of one list; labels and scores where all have them."""
    for row, entry in enumerate(entries):
        x1, y1, x2, y2 = entry.box
        if x1 >= x2 or y1 >= y2:
            raise PromptError(
                f"{place}.{row} is {list(entry.box)}: x1 < x2 and y1 < y2 expected (not x, y, width, height)"
            )
    for name in ("label", "score"):
        if len({getattr(entry, name) is None for entry in entries}) > 1:
            raise PromptError(f"{place}: some boxes have a {name} and some have none; all or none expected")
    boxes = np.array([entry.box for entry in entries], np.float32).reshape(-1, 4)
    scores: FloatArray = np.array([math.nan if e.score is None else e.score for e in entries], np.float32)
    labels = tuple(entry.label for entry in entries if entry.label is not None)
    return Detections(
        boxes, scores if np.isfinite(scores).all() else None, labels if len(labels) == len(boxes) else None
    )
