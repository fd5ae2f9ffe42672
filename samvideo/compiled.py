"""The stages of a `VideoModel` compiled by PyTorch: the operations between products become one kernel each.

On a GPU, each stage is then replayed as a CUDA graph, which spares launching its kernels one by one (as
pytorch-labs' segment-anything-fast does for the encoder alone). The first frames take as long as compiling does.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from samvideo.errors import ConfigError
from samvideo.memory_context import memory_context
from samvideo.models import VideoModel
from samvideo.nn.position import sine_grid
from samvideo.nn.rope import rotary_table
from samvideo.runtime import SelectedMemory
from samvideo.tensors import Features, Grid, MaskCandidates, MaskPrediction, MemoryContext, MemoryTokens
from samvideo.torch_runtime import TorchRuntime

P = ParamSpec("P")
R = TypeVar("R")

COMPILERS = ("c++", "g++", "clang++", "cl")


class CompiledRuntime(TorchRuntime):
    """`TorchRuntime` whose stages encode, track (attend and decode) and remember are compiled; prompts are not.

    Memories have their full capacity from the first frame on, and the number of objects is filled up to a power of
    two, so that few shapes are compiled; frames of several videos are encoded one by one. Results differ by
    rounding.

    Args:
        model, device, dtype: as of `TorchRuntime`.

    Raises:
        ConfigError: as `TorchRuntime`; or a compiler is missing. Where a stage cannot be compiled, its first call
            raises it.
    """

    def __init__(
        self, model: VideoModel, *, device: str | torch.device = "cpu", dtype: str | torch.dtype = "fp32"
    ) -> None:
        super().__init__(model, device=device, dtype=dtype, static_shapes=True)
        network = self.model
        check_compiler(network.device)
        for cached in (sine_grid, rotary_table):
            torch.compiler.assume_constant_result(cached)  # type: ignore[no-untyped-call]
        self._positions: dict[Grid, MemoryTokens] = {}
        decode, encode_memory, dtype = network.decode, network.encode_memory, network.dtype

        def find(maps: Features, context: MemoryContext) -> MaskCandidates:
            with network._autocast():
                embedding = network.memory.attend(maps, context)
            return decode(maps, embedding.to(dtype))

        def remember(maps: Features, prediction: MaskPrediction, binarise: Tensor) -> Tensor:
            return encode_memory(maps, prediction, binarise).features

        self._compiled_encode = compiled(network.encode, network.device)
        self._compiled_find = compiled(find, network.device)
        self._compiled_remember = compiled(remember, network.device)

    def _encode(self, images: Tensor) -> Features:
        if len(images) == 1:
            return self._compiled_encode(images)
        each = [self._compiled_encode(image) for image in torch.split(images, 1)]  # one shape to compile
        return Features.join(each)

    def _find(self, maps: Features, memories: Sequence[SelectedMemory]) -> MaskCandidates:
        if not memories[0].frames:
            return super()._find(maps, memories)
        model, count = self.model, len(memories)
        filled = [*memories, *[memories[-1]] * (_filled(count) - count)]
        with model._autocast():
            context = memory_context(
                model.memory, model.pointers, filled, self.policy.pointer_span, self.policy.capacity
            )
        found = self._compiled_find(_fill_maps(maps, len(filled)), context)
        return found if len(filled) == count else MaskCandidates(*(values[:count] for values in found))

    def _tokens(self, maps: Features, prediction: MaskPrediction, binarise: Tensor) -> MemoryTokens:
        if maps.grid not in self._positions:  # the position is the same tensor on every frame, which a graph is not
            self._positions[maps.grid] = super()._tokens(maps.rows()[0], prediction.row(0), binarise[:1])
        known, count = self._positions[maps.grid], len(prediction)
        missing = _filled(count) - count
        if missing:
            prediction = MaskPrediction.join([prediction, *[prediction.row(count - 1)] * missing])
            binarise = torch.cat([binarise, binarise[-1:].expand(missing)])
        features = self._compiled_remember(_fill_maps(maps, len(binarise)), prediction, binarise)
        return MemoryTokens(features[:count], known.position, known.num_unrotated, known.grid)


def compiled(function: Callable[P, R], device: torch.device) -> Callable[P, R]:
    """A function of tensors of fixed shapes, compiled at its first call for each; results are the caller's to keep.

    Raises:
        ConfigError: from its calls, where it cannot be compiled.
    """
    graphs = device.type == "cuda"
    inner = torch.compile(function, dynamic=False, mode="reduce-overhead" if graphs else None)

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        from torch._dynamo.exc import TorchDynamoException

        try:
            if not graphs:
                return inner(*args, **kwargs)
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            # a graph writes to the same memory each time
            return pytree.tree_map_only(Tensor, Tensor.clone, inner(*args, **kwargs))
        except TorchDynamoException as error:
            raise ConfigError(
                f"PyTorch cannot compile the model here: {_first_line(error)}; run uncompiled"
            ) from error

    return call


def check_compiler(device: torch.device) -> None:
    """Raise ConfigError if PyTorch lacks what it compiles with on a device."""
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"models are compiled for cpu and cuda, not for {device.type}: run uncompiled")
    names = [os.environ["CXX"]] if os.environ.get("CXX") else COMPILERS
    if not any(map(shutil.which, names)):
        raise ConfigError(
            f"to compile models, PyTorch needs a C++ compiler, and none is found ({', '.join(names)}): install "
            "one, such as the package g++, or run uncompiled"
        )
    if device.type == "cuda" and find_spec("triton") is None:
        raise ConfigError(
            "to compile models for a GPU, PyTorch needs triton: pip install triton, or run uncompiled"
        )


def _filled(count: int) -> int:
    """The least power of two that is not below."""
    return 1 << (count - 1).bit_length()


def _fill_maps(maps: Features, count: int) -> Features:
    """Maps of one frame as they are; those of several, for an object each, with the last one repeated."""
    rows = maps.rows()
    return maps if len(rows) in (1, count) else Features.join([*rows, *[rows[-1]] * (count - len(rows))])


def _first_line(error: Exception) -> str:
    error = getattr(error, "inner_exception", error)  # what a compiler raised, without the wrapping
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
