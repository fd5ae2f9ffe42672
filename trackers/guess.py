"""First masks that were guessed from a box or a click, kept until it is seen how the object moves."""

from dataclasses import dataclass, field

from samvideo.trackers.objects import ObjectPrompt
from samvideo.trackers.parts.view import View
from samvideo.trackers.parts.warp import warp
from samvideo.types import BoolArray, FloatArray


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
        age: frames since.
        motions: of `samvideo.trackers.parts.motion.own_motion`, towards each frame that it was compared with.
        places: float32 (h, w, 2) where on it each pixel of the latest frame comes from, for `warp`.
    """

    view: View
    prompts: dict[int, ObjectPrompt]
    masks: dict[int, BoolArray]
    age: int = 0
    motions: list[FloatArray] = field(default_factory=list)
    places: FloatArray | None = None

    def pass_on(self, places: FloatArray) -> None:
        """Take one more frame, which came from the one before as `places` say."""
        self.places = places if self.places is None else warp(self.places, places)
        self.age += 1
