"""The functions for CVAT, with the classes of its SDK, which check what they are given."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cvat_sdk", reason="needs CVAT's SDK: pip install cvat-sdk")
pytest.importorskip("fastapi", reason="needs samvideo[serve]")
pytest.importorskip("httpx", reason="FastAPI's test client needs httpx")

from cvat_sdk import Client, Config, auto_annotation, models
from cvat_sdk.auto_annotation.driver import _AnnotationMapper, _DetectionFunctionContextImpl, _SpecNameMapping
from cvat_sdk.masks import decode_mask
from cvat_server import LABELS, cvat_server
from PIL import Image
from serving_client import BOX, CLIP, FRAMES, SIZE

from samvideo.errors import ConfigError
from samvideo.prompters.base import MaskProposal
from samvideo.serving.cvat import DetectionFunction, TrackingFunction, create
from samvideo.trackers.flow import FlowTracker


class FixedPrompter:
    """Proposes the true objects."""

    def propose(self, rgb: Any) -> list[MaskProposal]:
        labels = "ball", None, "ball"
        return [
            MaskProposal(mask, 0.9 - 0.3 * k, 1.0, None, (0, 0, *SIZE), labels[k])
            for k, mask in enumerate(CLIP[0][1])
        ]


def _context(threshold: float | None = None, polygons: bool = False) -> Any:
    return _DetectionFunctionContextImpl(frame_name="0.png", conf_threshold=threshold, conv_mask_to_poly=polygons)


@pytest.mark.parametrize("polygons", [False, True])
def test_what_is_detected_is_what_cvat_takes(polygons: bool) -> None:
    function = DetectionFunction(FixedPrompter(), ["thing", "ball"])
    shapes = function.detect(_context(polygons=polygons), Image.fromarray(FRAMES[0]))
    assert {shape.type.value for shape in shapes} == {"polygon" if polygons else "mask"}
    labels = [
        models.Label(id=number, name=name, type="any", attributes=[], sublabels=[])
        for number, name in ((7, "thing"), (8, "ball"))
    ]
    mapper = _AnnotationMapper(
        SimpleNamespace(info=lambda *_: None, warning=lambda *_: None),  # type: ignore[arg-type]
        function.spec.labels,
        labels,
        allow_unmatched_labels=False,
        spec_nm=_SpecNameMapping(),
        conv_mask_to_poly=polygons,
    )
    mapper.validate_and_remap(shapes, 3)
    assert {shape.frame for shape in shapes} == {3}
    assert {shape.label_id for shape in shapes} == {7, 8}
    if not polygons:
        points = [int(value) for value in shapes[0].points]
        assert (decode_mask(points, image_width=SIZE[0], image_height=SIZE[1]) == CLIP[0][1][0]).all()


def test_the_confidence_that_is_asked_for() -> None:
    function = DetectionFunction(FixedPrompter(), ["thing"])
    image = Image.fromarray(FRAMES[0])
    assert len(function.detect(_context(0.5), image)) == 2
    assert function.detect(_context(0.95), image) == []
    with pytest.raises(ConfigError, match="no label"):
        DetectionFunction(FixedPrompter(), [])


@pytest.mark.parametrize("kind", ["rectangle", "mask"])
def test_shapes_are_tracked_each_by_itself(kind: str) -> None:
    function = TrackingFunction(FlowTracker)
    context: Any = SimpleNamespace(original_shape_type=kind)
    points = list(BOX)
    if kind == "mask":
        points = [float(value) for value in auto_annotation.mask(0, _encoded(CLIP[0][1][0])).points]
    images = [function.preprocess_image(context, Image.fromarray(rgb)) for rgb in FRAMES]
    state = function.init_tracking_state(
        context, images[0], auto_annotation.TrackableShape(type=kind, points=points)
    )
    for image in images[1:]:
        shape = function.track(context, image, state)
        assert shape is not None
        assert shape.type == kind
    if kind == "rectangle":
        assert np.abs(np.array(shape.points) - BOX).max() < 20
        assert state.seen == len(FRAMES)


def _encoded(mask: Any) -> list[float]:
    from cvat_sdk.masks import encode_mask

    return [float(value) for value in encode_mask(mask)]


def test_objects_are_found_by_name_of_model_only_where_there_is_one() -> None:
    with pytest.raises(ConfigError, match="no prompter"):
        create(prompter="nonsense", device="cpu")


def test_a_task_of_a_server_is_annotated(tmp_path: Path) -> None:
    function = DetectionFunction(FixedPrompter(), ["thing", "ball"])
    config = Config(cache_dir=tmp_path)
    with cvat_server(FRAMES) as (address, sent), Client(address, config=config) as client:
        auto_annotation.annotate_task(client, 1, function)
    shapes = sent[0]["shapes"]
    assert Counter(shape["frame"] for shape in shapes) == dict.fromkeys(range(len(FRAMES)), 3)
    assert {shape["label_id"] for shape in shapes} == {*LABELS.values()}
    assert {shape["type"] for shape in shapes} == {"mask"}


@pytest.mark.long  # it searches a picture by a grid of points
def test_the_command_of_cvat_finds_the_function(tmp_path: Path) -> None:
    pytest.importorskip("cvat_cli", reason="needs CVAT's command: pip install cvat-cli")
    what = ["task", "auto-annotate", "1", "--function-module", "samvideo.serving.cvat"]
    options = ["-p", "model=str:nano", "-p", "labels=str:thing", "-p", "device=str:cpu"]
    with cvat_server(FRAMES[:1]) as (address, sent):
        environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "CVAT_ACCESS_TOKEN": "secret"}
        command = [sys.executable, "-m", "cvat_cli", "--server-host", address, *what, *options]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    masks = [shape for shape in sent[0]["shapes"] if shape["label_id"] == LABELS["thing"]]
    assert masks
    assert {shape["type"] for shape in masks} == {"mask"}
