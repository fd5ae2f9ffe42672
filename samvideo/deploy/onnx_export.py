"""Writes the graphs of a model as ONNX files."""

import warnings
from pathlib import Path

import torch

from samvideo.deploy.graphs import FINE, Graph
from samvideo.errors import ConfigError

OPSET = 18
"""The newest that does not have operators for attention, which TensorRT splits graphs at."""


def check_exporter() -> None:
    """Raise ConfigError if the packages that make ONNX files are missing."""
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "the packages onnx and onnxscript are needed to export: pip install 'samvideo[onnx]'"
        ) from error


def write_onnx(graph: Graph, path: Path) -> None:
    """Write one graph, with its weights in the same file; see `check_exporter`."""
    names = list(graph.inputs)
    dynamic = [dict.fromkeys(graph.axes.get(name, {}), torch.export.Dim.DYNAMIC) or None for name in names]
    fine = [dynamic.pop() for name in names if name in FINE]  # the last argument of a module takes all of these
    shapes = (*dynamic, tuple(fine)) if fine else tuple(dynamic)
    module, values = graph.module.eval(), tuple(graph.inputs.values())
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about its own innards
        module(*values)  # fills the caches of position codes, which must not hold the tensors of a trace
        torch.onnx.export(
            module,
            values,
            path,
            input_names=names,
            output_names=list(graph.outputs),
            opset_version=OPSET,
            dynamic_shapes=shapes,
            external_data=False,
            verbose=False,
        )
