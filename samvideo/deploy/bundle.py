"""Exports a model: a folder with its graphs, the constants that they lack, and a manifest."""

from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from samvideo.deploy.calibration import Tracking, record
from samvideo.deploy.graphs import Graph, graphs_of
from samvideo.deploy.image_graphs import image_facts, image_graphs
from samvideo.deploy.manifest import (
    CONSTANTS,
    MANIFEST,
    SCHEMA,
    STAGES,
    File,
    GraphFormat,
    Manifest,
    Precision,
    Stage,
    file_of,
    graph_path,
)
from samvideo.deploy.nano_graphs import is_nano, nano_constants, nano_graphs
from samvideo.deploy.onnx_export import check_exporter, write_onnx
from samvideo.deploy.openvino_runtime import convert, import_openvino
from samvideo.deploy.precision import check_packages, to_float16, to_int8
from samvideo.errors import ConfigError
from samvideo.image_model import ImageModel
from samvideo.io.files import write_atomically, writing
from samvideo.models import VideoModel
from samvideo.policies import text_of
from samvideo.targets import complete

KIND = "export-model"
"""Names the list of files that a later export into the same folder may replace."""


def export_model(
    model: ImageModel,
    folder: Path,
    *,
    to: GraphFormat = "onnx",
    precision: Precision = "fp32",
    calibrate: Tracking | None = None,
    objects: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Path:
    """Export a model as graphs; it is fused in place, and cannot be used otherwise afterwards.

    Args:
        model: in float32 on the CPU. Its policy's name and options are those of `model.spec.policy`.
        folder: new, or of an earlier export, which is replaced.
        to: format of the graphs.
        precision: of encoder and memory attention, see `samvideo.deploy.precision`. With bf16 the files are
            in float32, and the runtime computes in bfloat16.
        calibrate: tracks some ten frames, for int8 with fixed ranges, see `samvideo.trackers.calibration`; without,
            ranges are computed for each frame.
        objects: how many objects graphs take at a time; None for any number.
        progress: called with the name of each graph before it is made.

    Raises:
        ConfigError: see `graphs_of`; the policy is not one of the registry, or the exporter's packages are missing.
        OutputError: the folder cannot be written.
    """
    _check(model, to, precision, calibrate, objects)
    model.eval().fuse()
    graphs = _graphs(model, objects)
    with writing(folder), complete(folder, KIND) as part:
        part.mkdir()
        for name, graph in graphs.items():
            progress(name)
            write_onnx(graph, graph_path(part, name))
        np.savez(part / CONSTANTS, **_constants(model))  # type: ignore[arg-type]
        samples = None if calibrate is None else record(part, _manifest(model, part, objects), calibrate)
        for name in graphs:
            path = graph_path(part, name)
            if precision == "fp16":
                to_float16(path, name)
            elif precision == "int8":
                to_int8(path, name, None if samples is None else samples[name], decoder=is_nano(model))
            if to == "openvino":
                convert(path)
        manifest = replace(_manifest(model, part, objects), graph_format=to, precision=precision)
        write_atomically(part / MANIFEST, SCHEMA.dump_json(manifest, indent=1))
    return folder


def _graphs(model: ImageModel, objects: int | None) -> dict[str, Graph]:
    if not isinstance(model, VideoModel):
        return image_graphs(model)
    return nano_graphs(model, objects) if is_nano(model) else graphs_of(model, objects)


def _check(model: ImageModel, to: str, precision: str, calibrate: object, objects: int | None) -> None:
    text_of(model.spec.policy)
    check_exporter()
    if not isinstance(model, VideoModel) and (objects or calibrate is not None):
        raise ConfigError(
            f"{model.name} is an image model, of one object at a time, and is not calibrated with a video: leave "
            "--objects and --calibrate out"
        )
    if calibrate is not None and precision != "int8":
        raise ConfigError(f"frames to calibrate with are for the precision int8, not {precision}")
    if precision == "int8" and calibrate is None and isinstance(model, VideoModel) and is_nano(model):
        raise ConfigError(
            f"{model.name} consists of convolutions, whose ranges are fixed for int8: give --calibrate"
        )
    if precision in ("fp16", "int8"):
        check_packages()
    if to == "openvino":
        import_openvino()


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


def _manifest(model: ImageModel, folder: Path, objects: int | None) -> Manifest:
    spec = model.spec
    files: dict[str, dict[Stage, File]] = {
        suffix: {name: file_of(path) for name in STAGES if (path := graph_path(folder, name, suffix)).exists()}
        for suffix in ("onnx", "xml", "bin")
    }
    facts: dict[str, Any] = {}
    if isinstance(model, VideoModel):
        policy = model.policy
        facts = {"pointer_span": policy.pointer_span, "presence_threshold": policy.presence_threshold}
    else:
        facts = {"image": image_facts(model)}
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
        graphs=files["onnx"] | files["xml"],
        constants=file_of(folder / CONSTANTS),
        spec=asdict(spec),
        window=spec.window,
        weights=files["bin"],
        **facts,
    )
