"""Exports a model: a folder with its graphs, the constants that they lack, and a manifest."""

from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from samvideo.deploy.graphs import Graph, graphs_of
from samvideo.deploy.image_graphs import image_facts, image_graphs
from samvideo.deploy.manifest import CONSTANTS, MANIFEST, SCHEMA, Manifest, file_of
from samvideo.deploy.nano_graphs import is_nano, nano_constants, nano_graphs
from samvideo.deploy.onnx_export import write_onnx
from samvideo.errors import ConfigError
from samvideo.image_model import ImageModel
from samvideo.io.files import write_atomically, writing
from samvideo.models import VideoModel
from samvideo.policies import text_of
from samvideo.targets import complete

KIND = "export-model"
"""Names the list of files that a later export into the same folder may replace."""


def export_model(
    model: ImageModel, folder: Path, *, objects: int | None = None, progress: Callable[[str], None] = lambda _: None
) -> Path:
    """Export a model to ONNX; it is fused in place, and cannot be used otherwise afterwards.

    Args:
        model: in float32 on the CPU. Its policy's name and options are those of `model.spec.policy`.
        folder: new, or of an earlier export, which is replaced.
        objects: how many objects graphs take at a time; None for any number.
        progress: called with the name of each graph before it is made.

    Raises:
        ConfigError: see `graphs_of`; the policy is not one of the registry, or the exporter's packages are missing.
        OutputError: the folder cannot be written.
    """
    text_of(model.spec.policy)  # a wrong one fails before the work
    if objects and not isinstance(model, VideoModel):
        raise ConfigError(f"{model.name} takes one object at a time: leave --objects out")
    model.eval().fuse()
    graphs = _graphs(model, objects)
    with writing(folder), complete(folder, KIND) as part:
        part.mkdir()
        for name, graph in graphs.items():
            progress(name)
            write_onnx(graph, _graph_path(part, name))
        np.savez(part / CONSTANTS, **_constants(model))  # type: ignore[arg-type]
        manifest = _manifest(model, part, graphs, objects)
        write_atomically(part / MANIFEST, SCHEMA.dump_json(manifest, indent=1))
    return folder


def _graphs(model: ImageModel, objects: int | None) -> dict[str, Graph]:
    if not isinstance(model, VideoModel):
        return image_graphs(model)
    return nano_graphs(model, objects) if is_nano(model) else graphs_of(model, objects)


def _graph_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.onnx"


def _constants(model: ImageModel) -> dict[str, np.ndarray]:
    """What is used on the host: the convolution of given masks, and the pointer of absent objects."""
    if not isinstance(model, VideoModel):
        return {}
    if is_nano(model):
        return nano_constants(model)
    head = model.pointers
    assert head is not None
    with torch.no_grad():
        return {
            "mask_kernel": head.mask_downsample.weight[0, 0].numpy(),
            "mask_bias": head.mask_downsample.bias.numpy(),  # type: ignore[union-attr]
            "absent_pointer": head.no_obj_ptr[0].numpy(),
        }


def _manifest(model: ImageModel, folder: Path, graphs: dict[str, Graph], objects: int | None) -> Manifest:
    spec = model.spec
    return Manifest(
        format="samvideo-graphs-1",
        samvideo=version("samvideo"),
        model=spec.name,
        policy=text_of(spec.policy),
        input_wh=spec.input_wh,
        answer=spec.answer,
        tracking=spec.tracking,
        capacity=model.policy.capacity if isinstance(model, VideoModel) else (1, 0),
        objects=objects,
        graphs={name: file_of(_graph_path(folder, name)) for name in graphs},  # type: ignore[misc]
        constants=file_of(folder / CONSTANTS),
        spec=asdict(spec),
        window=spec.window,
        image=None if isinstance(model, VideoModel) else image_facts(model),
    )
