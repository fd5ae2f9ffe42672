"""First masks that were guessed from a box or a click, kept until it is seen how the object moves."""

from dataclasses import dataclass

from samvideo.trackers.objects import ObjectPrompt
from samvideo.trackers.parts.view import View
from samvideo.types import BoolArray


def is_guess(prompt: ObjectPrompt, before: BoolArray) -> bool:
    """Whether a box or clicks leave much open: a box alone, or one click on what is not tracked yet."""
    if prompt.box is not None:
        return not len(prompt.xy)
    return len(prompt.xy) == 1 and not before.any()


@dataclass(eq=False)
class Guess:
    """A frame on which masks were guessed.

    Attributes:
        view: the frame.
        prompts: of the objects guessed and not corrected since, by id.
        masks: bool (H, W) of all objects on it, by id.
    """

    view: View
    prompts: dict[int, ObjectPrompt]
    masks: dict[int, BoolArray]
