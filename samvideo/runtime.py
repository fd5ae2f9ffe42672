"""The stages of a video model, as trackers and memory policies see them: NumPy values and opaque handles, no torch.

`samvideo.torch_runtime.TorchRuntime` is the implementation for PyTorch. Tokens, pointers, features, candidates and
predictions belong to the runtime that made them: callers keep them and hand them back, and read only what the
protocols below declare. What decisions depend on is NumPy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from samvideo.types import BoolArray, FloatArray, UInt8Array

Features: TypeAlias = Any
"""One encoded frame."""
Pointer: TypeAlias = Any
"""The object pointer of one object on one frame."""
Prediction: TypeAlias = Any
"""The chosen mask of one object on one frame, with all that memory needs of it; has a `pointer`."""


class Tokens(Protocol):
    """What one frame leaves in memory for one object."""

    def similarity(self, other: Any, *, rounded: bool = False) -> float:
        """Cosine similarity with another frame's tokens, summed over the tokens.

        Args:
            other: tokens of the same runtime and model.
            rounded: sum in the precision in which tokens are stored, as the published pruning does.
        """
        ...

    def potentiate(self, frames: Sequence[Any], sharpness: float) -> Any:
        """Mean over frames of the tokens x_i of each place, weighted by softmax_i(sharpness * cos(own token, x_i)).

        Only for memory methods whose tokens may be merged, see `MemoryPolicy.merges_tokens`.
        """
        ...


class MemoryFrame(NamedTuple):
    """Tokens to attend to, the row of the temporal code they get, and a factor on their keys."""

    code_row: int
    tokens: Any
    key_scale: float = 1.0


class MemoryPointer(NamedTuple):
    """A pointer to attend to, its age in frames for the temporal code, and a factor on its keys."""

    age: float
    pointer: Pointer
    key_scale: float = 1.0


class SelectedMemory(NamedTuple):
    """What a policy lets an object attend to on one frame, in the order of attention."""

    frames: tuple[MemoryFrame, ...] = ()
    pointers: tuple[MemoryPointer, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Number of frames and pointers; objects of equal shape form a batch."""
        return len(self.frames), len(self.pointers)


class Candidates(Protocol):
    """The masks that the decoder proposes for one object on one frame, N of them."""

    @property
    def ambiguous(self) -> bool:
        """Whether they are N = 3 alternatives to choose from; else the decoder itself picks, as published."""
        ...

    @property
    def quality_n(self) -> FloatArray:
        """(N,) predicted IoU of each mask."""
        ...

    @property
    def presence(self) -> float:
        """Object score logit, positive where the object is visible."""
        ...

    def areas(self) -> NDArray[np.int64]:
        """(N,) positive pixels of each low-resolution mask."""
        ...

    def boxes(self) -> FloatArray:
        """(N, 4) x1, y1, x2, y2: extreme positive pixels (inclusive) at the model's input size; zeros if none."""
        ...

    def masks(self, size_wh: tuple[int, int], rows: Sequence[int] | None = None) -> BoolArray:
        """(N, H, W) masks at a size, usually that of the video; only those of `rows` where given."""
        ...


class Pick(NamedTuple):
    """One of an object's candidates; None leaves the choice to the decoder, as published."""

    candidates: Candidates
    mask: int | None = None


@dataclass(frozen=True, eq=False)
class Output:
    """Predictions at frame size, on the host.

    Attributes:
        masks_khw: bool (K, H, W).
        logits_khw: float32 (K, H, W) if requested.
    """

    masks_khw: BoolArray
    logits_khw: FloatArray | None


class Runtime(Protocol):
    """The stages of one video model; pure functions of their arguments.

    Attributes:
        policy: the memory policy that the model was published with.
        static_shapes: whether memory is padded to a fixed capacity, so that objects of any age form a batch.
    """

    policy: Any
    static_shapes: bool

    def input_size(self, size_wh: tuple[int, int]) -> tuple[int, int]:
        """Width and height to which frames of `size_wh` are resized; clicks are given in pixels of it."""
        ...

    def encode(self, rgb: UInt8Array) -> Features:
        """Encode a uint8 (H, W, 3) frame."""
        ...

    def track(self, features: Features, memories: Sequence[SelectedMemory]) -> Sequence[Candidates]:
        """Find B objects on a frame by their memories: of equal shape, unless `static_shapes`."""
        ...

    def prompt(
        self,
        features: Features,
        memory: SelectedMemory,
        xy: FloatArray,
        labels: NDArray[np.int64],
        previous: Prediction | None,
    ) -> Candidates:
        """Segment one object from prompts.

        Args:
            features: of the frame.
            memory: of the object, empty for a new one.
            xy: (N, 2) points in pixels of the input.
            labels: (N,) 1 on the object, 0 not, 2 and 3 for the corners of a box.
            previous: what was predicted on this frame before and is to be corrected.
        """
        ...

    def choose(self, picks: Sequence[Pick], presence_threshold: float) -> list[Prediction]:
        """The picked candidates as predictions; objects whose presence is not above the threshold are absent."""
        ...

    def use_mask_as_output(self, features: Features, mask: BoolArray) -> Prediction:
        """Take a given (H, W) mask at frame size as the prediction."""
        ...

    def remember(
        self, features: Features, predictions: Sequence[Prediction], binarise: Sequence[bool]
    ) -> list[Any]:
        """Memory tokens of a frame for each prediction; its mask is made binary first where asked."""
        ...

    def output(
        self, predictions: Sequence[Prediction], size_wh: tuple[int, int], *, exclusive: bool, logits: bool
    ) -> Output:
        """Transfer predictions to the host at frame size.

        Args:
            predictions: of K objects.
            size_wh: of the frame.
            exclusive: give every pixel to the object with the highest logit only.
            logits: return logits as well.
        """
        ...

    def scores(self, predictions: Sequence[Prediction]) -> tuple[FloatArray, FloatArray]:
        """Float32 (K,) predicted IoU and (K,) object score logits of K predictions."""
        ...

    def pack(self, values: Sequence[Any]) -> bytes:
        """Serialise tokens, pointers and predictions."""
        ...

    def unpack(self, data: bytes) -> list[Any]:
        """Load what `pack` wrote; ConfigError if it cannot be read."""
        ...


@runtime_checkable
class BatchedRuntime(Runtime, Protocol):
    """A runtime that computes a stage for frames of several videos at once; up to rounding as for each alone.

    Arguments and results are those of `Runtime`, one for each frame. All frames of a call have one `input_size`.

    Attributes:
        frames_at_once: how many are best computed at once on its device; 1 where each alone is faster.
    """

    frames_at_once: int

    def encode_batch(self, rgbs: Sequence[UInt8Array]) -> Sequence[Features]:
        """Encode a frame of each video."""
        ...

    def track_batch(
        self, features: Sequence[Features], memories: Sequence[Sequence[SelectedMemory]]
    ) -> Sequence[Sequence[Candidates]]:
        """Find the objects of each frame; all memories are of equal shape, unless `static_shapes`."""
        ...

    def remember_batch(
        self,
        features: Sequence[Features],
        predictions: Sequence[Sequence[Prediction]],
        binarise: Sequence[Sequence[bool]],
    ) -> Sequence[Sequence[Any]]:
        """Memory tokens of each frame for its predictions."""
        ...
