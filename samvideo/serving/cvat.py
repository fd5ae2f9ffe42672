"""Functions for automatic annotation in CVAT. The only file that imports cvat_sdk.

`create` is what `cvat-cli task auto-annotate --function-module samvideo.serving.cvat` calls, with its arguments
from options such as `-p model=str:nano`; `create_tracking` makes a function that tracks, for an agent.

Source: https://docs.cvat.ai/docs/api_sdk/sdk/auto-annotation
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from cvat_sdk import auto_annotation as cvat
from cvat_sdk.masks import decode_mask, encode_mask
from cvat_sdk.models import LabeledShapeRequest
from PIL import Image

from samvideo.errors import ConfigError, PromptError
from samvideo.prompters.base import AutoPrompter, MaskProposal
from samvideo.prompters.factory import load_prompter
from samvideo.segmenters.factory import load_segmenter
from samvideo.serving.service import MakeTracker, sharing
from samvideo.trackers.base import Tracker
from samvideo.trackers.factory import create_tracker
from samvideo.types import BoolArray, Box, Frame, Mask, Prompt

SHAPES = frozenset({"mask", "rectangle"})


class DetectionFunction:
    """Finds the objects of an image, as masks; implements CVAT's interface of the same name.

    Args:
        prompter: finds them.
        labels: names of classes that it gives; objects of other or no classes get the first one.
    """

    def __init__(self, prompter: AutoPrompter, labels: Sequence[str]) -> None:
        if not labels:
            raise ConfigError("no label: at least one name of a label in the task expected")
        self._prompter, self._ids = prompter, {label: number for number, label in enumerate(labels)}
        self.spec = cvat.DetectionFunctionSpec(
            labels=[cvat.label_spec(label, number) for label, number in self._ids.items()]
        )

    def detect(self, context: cvat.DetectionFunctionContext, image: Image.Image) -> list[LabeledShapeRequest]:
        """Masks, or polygons where CVAT asks for these, of the confidence that it asks for."""
        least = context.conf_threshold or 0.0
        found = self._prompter.propose(_rgb(image))
        kept = [one for one in found if (one.quality if one.score is None else one.score) >= least]
        return [shape for one in kept for shape in self._shapes(one, context.conv_mask_to_poly)]

    def _shapes(self, proposal: MaskProposal, polygons: bool) -> list[LabeledShapeRequest]:
        number = self._ids.get(proposal.label or "", 0)
        if not proposal.area:
            return []
        if not polygons:
            return [cvat.mask(number, encode_mask(proposal.mask))]
        return [cvat.polygon(number, points) for points in outlines(proposal.mask)]


@dataclass
class TrackingState:
    """What is known of one shape: its tracker, and how many frames that has seen."""

    tracker: Tracker
    seen: int = 1


class TrackingFunction:
    """Tracks rectangles and masks; implements CVAT's interface of the same name.

    Args:
        make_tracker: makes a tracker for each shape.
    """

    spec = cvat.TrackingFunctionSpec(supported_shape_types=SHAPES)

    def __init__(self, make_tracker: MakeTracker) -> None:
        self._make_tracker = make_tracker

    def preprocess_image(self, context: cvat.TrackingFunctionContext, image: Image.Image) -> Frame:
        """Convert an image."""
        return Frame(0, 0.0, _rgb(image))

    def init_tracking_state(
        self, context: cvat.TrackingFunctionShapeContext, pp_image: Frame, shape: cvat.TrackableShape
    ) -> TrackingState:
        """Begin with a shape on an image. Raises PromptError for one without area."""
        state = TrackingState(self._make_tracker())
        state.tracker.step(pp_image, [_prompt(shape, pp_image.size_wh)])
        return state

    def track(
        self, context: cvat.TrackingFunctionShapeContext, pp_image: Frame, state: TrackingState
    ) -> cvat.TrackableShape | None:
        """The shape on the next image; None where it is not seen."""
        result = state.tracker.step(Frame(state.seen, float(state.seen), pp_image.rgb))
        state.seen += 1
        mask = result.masks[0]
        if not result.present[0] or not mask.any():
            return None
        if context.original_shape_type == "mask":
            return cvat.TrackableShape(type="mask", points=encode_mask(mask))
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        return cvat.TrackableShape(type="rectangle", points=[float(side) for side in box])


def create(
    model: str = "nano",
    prompter: str = "auto",
    labels: str = "object",
    texts: str | None = None,
    device: str = "auto",
) -> DetectionFunction:
    """A function that finds objects.

    Args:
        model: segments, see `load_segmenter`.
        prompter: finds, see `load_prompter`; with `texts` usually "text".
        labels: names of labels in the task, separated by commas.
        texts: what to look for, separated by semicolons; they are labels too.
        device: auto, cpu, cuda or mps.

    Raises:
        ConfigError, WeightsError: as these functions do.
    """
    wanted = None if texts is None else [text.strip() for text in texts.split(";") if text.strip()]
    found = load_prompter(prompter, load_segmenter(model, device=device), texts=wanted)
    return DetectionFunction(found, wanted or [label.strip() for label in labels.split(",") if label.strip()])


def create_tracking(model: str = "nano", device: str = "auto") -> TrackingFunction:
    """A function that tracks with a model, which all shapes share; errors as of `create_tracker`."""
    return TrackingFunction(sharing(lambda: create_tracker(model, device=device)))


def outlines(mask: BoolArray) -> list[list[float]]:
    """The outer outlines of a mask as polygons x1, y1, x2, y2, ..., of at least three corners."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [(contour.reshape(-1) + 0.5).tolist() for contour in found if len(contour) >= 3]


def _rgb(image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(image.convert("RGB"))


def _prompt(shape: cvat.TrackableShape, size_wh: tuple[int, int]) -> Prompt:
    width, height = size_wh
    if shape.type == "rectangle":
        x1, y1, x2, y2 = shape.points
        return Box((x1, y1, x2, y2))
    if shape.type == "mask":
        return Mask(decode_mask(shape.points, image_width=width, image_height=height))
    raise PromptError(f"a shape is a {shape.type}: one of {', '.join(sorted(SHAPES))} expected")
