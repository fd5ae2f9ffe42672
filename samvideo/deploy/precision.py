"""Graphs in other precisions than float32: float16, and int8 by the quantisation of ONNX Runtime; no torch.

What is narrowed is the encoder and the memory attention. Decoder, pointers and memory encoder stay in float32, as
their errors go round the loop of tracking and grow; so do inputs and outputs. Of the bundled model, whose memory
has no attention layers, int8 narrows the convolutions of encoder and decoder but the last.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from samvideo.errors import ConfigError
from samvideo.io.files import replacing

SCOPES = "pkg.torch.onnx.name_scopes"
"""Where PyTorch's exporter notes the modules that a node comes from."""
MEMORY, DECODER = "'model.memory", "'model.decoder."
LAST = tuple(f"{DECODER}{part}" for part in ("masks", "quality", "presence"))
"""Parts of the bundled model's decoder that stay in float32."""


def check_packages() -> None:
    """ConfigError if what the functions here need is missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "the packages onnx and onnxruntime are needed for fp16 and int8: pip install 'samvideo[onnx]'"
        ) from error


def to_float16(path: Path, stage: str) -> None:
    """Narrow an .onnx file of a stage in place."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(path)
    narrowed = {node.name for node in _narrowed(model, stage)}
    kept = [node.name for node in model.graph.node if node.name not in narrowed]
    if narrowed:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that float16 rounds to 0
            onnx.save(convert_float_to_float16(model, keep_io_types=True, node_block_list=kept), path)


def to_int8(
    path: Path, stage: str, samples: Sequence[Mapping[str, NDArray[Any]]] | None, *, decoder: bool = False
) -> None:
    """Quantise the layers with weights in an .onnx file of a stage, in place.

    Args:
        path: of the file.
        stage: its name.
        samples: inputs by which the ranges of activations are set; without, ranges are computed as the graph runs,
            and convolutions stay as they are.
        decoder: quantise the decoder in `track`, too; but for its last layers.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static

    model = onnx.load(path)
    weights = {value.name for value in model.graph.initializer}
    kinds = ["MatMul", "Gemm"] if samples is None else ["Conv", "MatMul", "Gemm"]
    narrowed = _narrowed(model, stage, decoder)
    layers = [node for node in narrowed if node.op_type in kinds and weights.intersection(node.input[1:2])]
    if not layers:
        return
    if samples is not None:
        layers += _between(narrowed, layers)
    options: dict[str, Any] = {
        "op_types_to_quantize": list({node.op_type for node in layers}),
        "nodes_to_quantize": [node.name for node in layers],
        "per_channel": True,
    }
    with replacing(path) as target:
        if samples is None:
            quantize_dynamic(path, target, weight_type=QuantType.QInt8, **options)
        else:
            reader = _Samples(iter(samples), [value.name for value in model.graph.input])
            quantize_static(path, target, reader, activation_type=QuantType.QUInt8, **options)


class _Samples:
    """What ONNX Runtime calls a data reader."""

    def __init__(self, samples: Iterator[Mapping[str, NDArray[Any]]], names: list[str]) -> None:
        self._samples, self._names = samples, names

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        sample = next(self._samples, None)
        return None if sample is None else {name: sample[name] for name in self._names}


def _narrowed(model: Any, stage: str, decoder: bool = False) -> list[Any]:
    """The nodes of the encoder, or of the memory attention; with those of the decoder but its last."""
    if stage == "encode":
        return list(model.graph.node)
    if stage != "track":
        return []
    found = []
    for node in model.graph.node:
        scopes = "".join(prop.value for prop in node.metadata_props if prop.key == SCOPES)
        if MEMORY in scopes or (decoder and DECODER in scopes and not any(part in scopes for part in LAST)):
            found.append(node)
    return found


def _between(nodes: Sequence[Any], layers: Sequence[Any]) -> list[Any]:
    """Clipping of what layers put out, and sums of it, without which each layer would return to float32.

    A range is that after clipping, which is narrower.
    """
    made, found = {node.output[0] for node in layers}, []
    for node in nodes:
        read = node.input if node.op_type == "Add" else node.input[:1]  # the others are limits
        if node.op_type in ("Add", "Clip", "Relu") and made.issuperset(read):
            found.append(node)
            made.add(node.output[0])
    return found
