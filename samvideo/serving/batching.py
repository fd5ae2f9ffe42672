"""Dynamic batching: the stages that sessions of one model wait for at the same time are computed as one.

Nothing waits for company: a batch is what waits when the computing thread is free. There is one such thread for all
models of a server, since each computation takes all cores, or the GPU, anyway. Only what memory policies read of
tokens and candidates is computed on the threads of the steps.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from numpy.typing import NDArray

from samvideo.runtime import BatchedRuntime, Candidates, Features, Output, Pick, Prediction, SelectedMemory
from samvideo.trackers.sam import BATCH
from samvideo.types import BoolArray, FloatArray, UInt8Array, image_wh

T = TypeVar("T")
Compute = Callable[[Sequence[Any]], Sequence[Any]]
"""From the arguments of some calls to their results."""
ORDER = ("prompt", "choose", "use_mask_as_output", "output", "encode", "track", "remember")
"""Which stage is computed first: short ones that are computed alone, then batches by their order in a step."""


class Kind(NamedTuple):
    """What calls have in common that can be computed as one: runtime, stage, and shape of the tensors."""

    runtime: object
    stage: str
    shape: Hashable = None


@dataclass(eq=False)
class _Call:
    """What a thread waits for; the fields are explained at `Calls.join`."""

    compute: Compute
    arguments: Any
    objects: int
    frames: int
    asked: float = field(default_factory=time.perf_counter)
    begun: float = 0.0
    result: "Future[Any]" = field(default_factory=Future)


class Calls:
    """The calls of all threads, which are computed on one: by the `ORDER` of stages, then in order of arrival.

    So sessions that are behind catch up, and go on in one batch with the others, which wait for no more than a step
    of each session.

    Args:
        thread: an executor with a single thread; what else it is given takes its turn among the calls.
        observe: called with the stage and the number of frames of each batch, including batches of one.
    """

    def __init__(self, thread: Executor, observe: Callable[[str, int], None] = lambda stage, frames: None) -> None:
        self._thread, self._observe = thread, observe
        self._waiting: defaultdict[Kind, list[_Call]] = defaultdict(list)
        self._lock = threading.Lock()  # of the calls that wait
        self._own = threading.local()

    def run(self, kind: Kind, act: Callable[[], T]) -> T:
        """Compute a call alone; raises what it raises."""
        result: T = self._result(kind, _Call(lambda _: [act()], None, 1, 1))
        return result

    def join(self, kind: Kind, compute: Compute, arguments: Any, objects: int, frames: int) -> Any:
        """Compute a call together with those of its kind that wait; raises what it raises alone.

        Args:
            kind: see there.
            compute: computes several calls of this kind.
            arguments: of this call.
            objects: that this call is about; a batch has at most `BATCH` of them, or a single call.
            frames: the most calls in a batch.
        """
        return self._result(kind, _Call(compute, arguments, objects, frames))

    def waited(self) -> float:
        """Seconds that calls of this thread have waited to be computed, since it last asked."""
        seconds: float = getattr(self._own, "waited", 0.0)
        self._own.waited = 0.0
        return seconds

    def _result(self, kind: Kind, call: _Call) -> Any:
        with self._lock:
            self._thread.submit(self._compute_next)
            self._waiting[kind].append(call)
        try:
            return call.result.result()
        finally:
            self._own.waited = getattr(self._own, "waited", 0.0) + call.begun - call.asked

    def _compute_next(self) -> None:
        """Compute the next batch, if calls wait: some have been computed with an earlier one."""
        with self._lock:
            if not self._waiting:
                return
            kind = min(self._waiting, key=lambda kind: (ORDER.index(kind.stage), self._waiting[kind][0].asked))
            batch = _first(self._waiting[kind])
            del self._waiting[kind][: len(batch)]
            if not self._waiting[kind]:
                del self._waiting[kind]
        begun = time.perf_counter()
        for call in batch:
            call.begun = begun
        if batch[0].frames > 1:
            self._observe(kind.stage, len(batch))
        if len(batch) == 1 or not _computed_together(batch):
            for call in batch:
                _compute_alone(call)


def _first(waiting: Sequence[_Call]) -> list[_Call]:
    """The calls of the next batch: the first, and those after it that there is room for."""
    count, objects = 1, waiting[0].objects
    while count < min(waiting[0].frames, len(waiting)) and objects + waiting[count].objects <= BATCH:
        objects += waiting[count].objects
        count += 1
    return list(waiting[:count])


def _compute_alone(call: _Call) -> None:
    try:
        (result,) = call.compute([call.arguments])
    except BaseException as error:  # the thread that waits raises it
        call.result.set_exception(error)
    else:
        call.result.set_result(result)


def _computed_together(batch: Sequence[_Call]) -> bool:
    """Whether a batch could be computed as one.

    Arguments were checked before. What fails is the server, as for want of memory, and the calls may succeed alone.
    """
    try:
        results = list(zip(batch, batch[0].compute([call.arguments for call in batch]), strict=True))
    except Exception:
        logging.getLogger(__name__).warning(
            "a batch of %d frames has failed: each is computed alone; a smaller --batch may help",
            len(batch),
            exc_info=True,
        )
        return False
    for call, result in results:
        call.result.set_result(result)
    return True


class _Frame(NamedTuple):
    """Features of a frame, and the size of the input that they were made of."""

    features: Features
    input_wh: tuple[int, int]


class BatchingRuntime:
    """Passes the stages of a runtime on to `Calls`; implements `samvideo.runtime.Runtime` for many threads.

    Prompts, masks at frame size and what else is done once a frame are computed one at a time. Tokens, pointers,
    candidates and predictions are those of the runtime.

    Args:
        runtime: computes the stages.
        calls: of all threads.
        frames: the most that are computed as one.
    """

    def __init__(self, runtime: BatchedRuntime, calls: Calls, frames: int) -> None:
        self._runtime, self._calls, self.frames = runtime, calls, frames
        self.policy, self.static_shapes = runtime.policy, runtime.static_shapes
        self.input_size = runtime.input_size
        self.scores, self.pack, self.unpack = runtime.scores, runtime.pack, runtime.unpack

    def encode(self, rgb: UInt8Array) -> _Frame:
        """See `Runtime.encode`."""
        size = self.input_size(image_wh(rgb))
        return _Frame(self._join("encode", size, self._runtime.encode_batch, rgb, 1), size)

    def track(self, features: _Frame, memories: Sequence[SelectedMemory]) -> Sequence[Candidates]:
        """See `Runtime.track`."""
        kind = bool(memories[0].frames) if self.static_shapes else memories[0].shape
        arguments = features.features, memories
        compute = _unzipped(self._runtime.track_batch)
        found: Sequence[Candidates] = self._join(
            "track", (features.input_wh, kind), compute, arguments, len(memories)
        )
        return found

    def remember(self, features: _Frame, predictions: Sequence[Prediction], binarise: Sequence[bool]) -> list[Any]:
        """See `Runtime.remember`."""
        arguments = features.features, predictions, binarise
        compute = _unzipped(self._runtime.remember_batch)
        return list(self._join("remember", features.input_wh, compute, arguments, len(predictions)))

    def _join(self, stage: str, shape: Hashable, compute: Compute, arguments: Any, objects: int) -> Any:
        return self._calls.join(Kind(self, stage, shape), compute, arguments, objects, self.frames)

    def prompt(
        self,
        features: _Frame,
        memory: SelectedMemory,
        xy: FloatArray,
        labels: NDArray[Any],
        previous: Prediction | None,
    ) -> Candidates:
        """See `Runtime.prompt`."""
        return self._run("prompt", lambda: self._runtime.prompt(features.features, memory, xy, labels, previous))

    def choose(self, picks: Sequence[Pick], presence_threshold: float) -> list[Prediction]:
        """See `Runtime.choose`."""
        return self._run("choose", lambda: self._runtime.choose(picks, presence_threshold))

    def use_mask_as_output(self, features: _Frame, mask: BoolArray) -> Prediction:
        """See `Runtime.use_mask_as_output`."""
        return self._run("use_mask_as_output", lambda: self._runtime.use_mask_as_output(features.features, mask))

    def output(
        self, predictions: Sequence[Prediction], size_wh: tuple[int, int], *, exclusive: bool, logits: bool
    ) -> Output:
        """See `Runtime.output`."""
        return self._run(
            "output", lambda: self._runtime.output(predictions, size_wh, exclusive=exclusive, logits=logits)
        )

    def _run(self, stage: str, act: Callable[[], T]) -> T:
        return self._calls.run(Kind(self, stage), act)


def _unzipped(compute: Callable[..., Sequence[Any]]) -> Compute:
    """A function of one sequence for each argument, as a function of the arguments of each call."""
    return lambda calls: compute(*zip(*calls, strict=True))
