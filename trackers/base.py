"""The interface that every tracker implements."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from samvideo.types import Frame, FrameResult, Prompt


@runtime_checkable
class Tracker(Protocol):
    """Tracks objects through the frames it is given; the caller owns the loop.

    Starting, tracking, adding and correcting are one call, `step`. State does not grow with the number of frames
    seen. The suite in `tests/contracts/test_tracker.py` runs over every implementation.
    """

    @property
    def lookahead(self) -> int:
        """How many upcoming frames improve the masks of prompted objects: 0 or 1."""
        ...

    def step(self, frame: Frame, prompts: Sequence[Prompt] = (), *, upcoming: Frame | None = None) -> FrameResult:
        """Process the next frame and return the mask of every tracked object on it.

        A prompt for a new id adds that object, for a known id corrects it on this frame; an `object_id` of None
        takes the next free id. All prompts are checked before any state changes. With no object yet, K = 0.

        A frame with the same index as the one before is the same frame again: no time passes, objects without a
        prompt keep their masks, and prompts correct what was found on it.

        Args:
            frame: the next one in the order of propagation, which may be backwards or strided.
            prompts: in pixels of `frame`.
            upcoming: the frame that follows, if known; ignored where `lookahead` is 0. It may be omitted, and
                matters on frames with prompts only.

        Raises:
            PromptError: a prompt is outside the frame, contradicts another, or has the wrong size.
            VideoError: the frame has another size than the frames before it.
        """
        ...

    def forget(self, object_id: int) -> None:
        """Stop tracking one object; KeyError if it is not tracked. Its id may be used again."""
        ...

    def reset(self) -> None:
        """Drop all objects and frames, ready for another video."""
        ...

    def state(self) -> bytes:
        """Serialise everything known of the video; `restore` continues from it with identical results.

        Raises:
            ConfigError: this tracker cannot save its state.
        """
        ...

    def restore(self, state: bytes) -> None:
        """Replace the state by one that `state` returned, of a tracker with the same model and options.

        Raises:
            ConfigError: the bytes are damaged or of another kind of tracker; nothing has changed then.
        """
        ...
