"""The architecture: imports go downward only, and each heavy or optional library has one home."""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAPPED = {"memory": "samvideo.memory", "trackers": "samvideo.trackers", "evaluation": "samvideo.evaluation"}

# The longest matching prefix decides. Packages of one layer do not see each other, except for a shared base.py; a
# digit after the point orders the packages of a layer that build on each other.
LAYERS = {
    "samvideo.errors": 0.0,
    "samvideo.moments": 0.05,
    "samvideo.types": 0.1,
    "samvideo.geometry": 0.2,
    "samvideo.object_prompts": 0.3,
    "samvideo.registry": 0.2,
    "samvideo.interrupt": 1.0,
    "samvideo.io": 1.0,
    "samvideo.runtime": 1.0,
    "samvideo.reporting": 1.0,
    "samvideo.tensors": 1.0,
    "samvideo.weights": 1.0,
    "samvideo.run_folder": 1.05,
    "samvideo.targets": 1.06,
    "samvideo.nn": 1.1,
    "samvideo.prompt_syntax": 1.1,
    "samvideo.search_settings": 1.1,
    "samvideo.encoders": 2.0,
    "samvideo.heads": 2.0,
    "samvideo.memory": 2.0,
    "samvideo.memory_context": 3.0,
    "samvideo.specs": 3.0,
    "samvideo.option_text": 1.0,
    "samvideo.policies": 3.0,
    "samvideo.networks": 3.0,
    "samvideo.picture_sizes": 3.02,
    "samvideo.pictures": 3.05,
    "samvideo.image_model": 3.07,
    "samvideo.windows": 3.08,
    "samvideo.models": 3.1,
    "samvideo.state_dict": 3.2,
    "samvideo.torch_candidates": 3.1,
    "samvideo.torch_runtime": 3.2,
    "samvideo.interchange": 3.3,
    "samvideo.checkpoints": 3.3,
    "samvideo.compiled": 3.3,
    "samvideo.deploy": 3.4,
    "samvideo.compress": 3.4,
    "samvideo.compress.saved": 3.25,
    "samvideo.segmenters": 4.0,
    "samvideo.prompters": 4.05,
    "samvideo.trackers": 4.1,
    "samvideo.demo": 5.0,
    "samvideo.redaction": 5.1,
    "samvideo.render": 5.0,
    "samvideo.outputs": 5.1,
    "samvideo.run_base": 5.0,
    "samvideo.segment_folder": 5.05,
    "samvideo.segment_coco": 5.1,
    "samvideo.segment_outputs": 5.15,
    "samvideo.segment_run": 5.25,
    "samvideo.resume": 5.15,
    "samvideo.evaluation": 5.2,
    "samvideo.comparison": 5.25,
    "samvideo.run": 5.2,
    "samvideo.calibrate": 5.3,
    # what only the command line uses
    "samvideo.analysis": 5.3,
    "samvideo.exports": 5.3,
    "samvideo.runner": 5.3,
    "samvideo.bulk_run": 5.35,
    "samvideo.scaffold": 5.3,
    "samvideo.testing": 5.3,
    "samvideo.training": 5.3,
    "samvideo.volume_run": 5.3,
    "samvideo.web": 5.3,
    "samvideo.serving": 5.4,
    "samvideo.notebook": 5.4,
    "samvideo.cli": 6.0,
    "samvideo.__main__": 6.1,
    "samvideo": 7.0,
}
# Imports that close a circle of folders, with the reason.
CIRCLES = {
    ("samvideo.segmenters.specs", "samvideo.segmenters"): "specs import their segmenters only to build them",
    ("samvideo.trackers.specs", "samvideo.trackers"): "specs import their trackers only to build them",
    ("samvideo.evaluation.datasets", "samvideo.evaluation"): "data sets and scoring share evaluation/files.py",
}
# A heavy or optional library is known to these modules only (av: three read, two write).
HOMES = {
    "av": {f"samvideo.io.{name}" for name in ("alpha", "container", "deinterlace", "sink", "stream")},
    "decord": {"samvideo.io.random_access"},
    "pycocotools": {"samvideo.io.masks"},
    "rich": {"samvideo.cli"},
    "typer": {"samvideo.cli"},
    "platformdirs": {"samvideo.weights.fetch"},
    "filelock": {
        "samvideo.deploy.cache",
        "samvideo.io.locks",
        "samvideo.serving.storage",
        "samvideo.weights.fetch",
    },
    "timm": {
        "samvideo.evaluation.image_peers",
        "samvideo.networks.rap_sam",
        *(f"samvideo.encoders.{name}" for name in ("efficientnet_lite", "repvit", "resnet")),
    },
    "hiera": {"samvideo.encoders.hiera"},
    "onnx": {"samvideo.deploy.precision"},
    "onnxruntime": {"samvideo.deploy.onnx_runtime", "samvideo.deploy.precision"},
    "onnxscript": {"samvideo.deploy.onnx_export"},
    "openvino": {"samvideo.deploy.openvino_runtime"},
    "nibabel": {"samvideo.io.volumes"},
    "ray": {"samvideo.evaluation.cluster"},
    "anyio": {"samvideo.serving.service"},
    "cvat_sdk": {"samvideo.serving.cvat"},
    "fastapi": {"samvideo.serving.app"},
    "h11": {"samvideo.serving.forward"},
    "prometheus_client": {"samvideo.serving.metrics"},
    "starlette": {"samvideo.serving.app", "samvideo.web.app"},
    "uvicorn": {"samvideo.web.connections", "samvideo.web.server"},
    "supervision": {"samvideo.exports.detections"},
    "matplotlib": {"samvideo.reporting.charts"},
    "jinja2": {"samvideo.reporting.pages"},
    "transformers": {"samvideo.evaluation.peer", "samvideo.interchange", "samvideo.prompters.huggingface"},
    "torchvision": {"samvideo.prompters.rcnn"},
    "IPython": {"samvideo.notebook"},
    "google": {"samvideo.notebook"},
}
# Libraries that any module may use; torch only outside of TORCH_FREE.
COMMON = {"PIL", "cv2", "einops", "numpy", "pydantic", "safetensors", "scipy", "torch"}
# What works without torch, but for the modules named in WITH_TORCH.
TORCH_FREE = (
    "samvideo.analysis",
    "samvideo.deploy.cache",
    "samvideo.deploy.detail",
    "samvideo.deploy.graph_runtime",
    "samvideo.deploy.image_pictures",
    "samvideo.deploy.manifest",
    "samvideo.deploy.nano_runtime",
    "samvideo.deploy.onnx_runtime",
    "samvideo.deploy.runtimes",
    "samvideo.deploy.openvino_runtime",
    "samvideo.deploy.precision",
    "samvideo.exports",
    "samvideo.io",
    "samvideo.memory.bank",
    "samvideo.memory.base",
    "samvideo.memory.consolidated",
    "samvideo.memory.diverse",
    "samvideo.memory.d4sm",
    "samvideo.memory.dam4sam",
    "samvideo.memory.fifo",
    "samvideo.memory.pruning",
    "samvideo.memory.sam2long",
    "samvideo.memory.samurai",
    "samvideo.notebook",
    "samvideo.option_text",
    "samvideo.picture_sizes",
    "samvideo.policies",
    "samvideo.prompters",
    "samvideo.reporting",
    "samvideo.runtime",
    "samvideo.segmenters",
    "samvideo.serving",
    "samvideo.specs",
    "samvideo.trackers",
    "samvideo.web",
)
WITH_TORCH = (
    *(f"samvideo.segmenters.{name}" for name in ("image_model", "rap_sam", "squeeze_sam", "volume")),
    *(
        f"samvideo.prompters.{name}"
        for name in ("appearance", "decoding", "huggingface", "learned", "objectness", "rcnn")
    ),
)


def modules() -> Iterator[tuple[str, Path]]:
    for folder in ("samvideo", *MAPPED):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts).removesuffix(".__init__")
            yield MAPPED.get(folder, folder) + name[len(folder) :], path


MODULES = dict(modules())
FOLDERS = {name for name, path in MODULES.items() if path.name == "__init__.py"} - {"samvideo"}


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Imported modules with their lines; `from package import module` counts as the module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module or "", node.lineno


IMPORTS = {name: list(imports(path)) for name, path in MODULES.items()}


def within(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def covering(name: str, table: Iterable[str]) -> str:
    """The longest entry of a table that a module belongs to; empty if there is none."""
    return max((key for key in table if within(name, [key])), key=len, default="")


@pytest.mark.parametrize("name", MODULES)
def test_layers(name: str) -> None:
    own = covering(name, LAYERS)
    assert own != "samvideo" or name == own, f"{name} belongs to no layer: add it to the table"
    for target, line in IMPORTS[name]:
        where = f"{MODULES[name].relative_to(ROOT)}:{line} imports {target}"
        top = target.split(".")[0]
        assert top not in MAPPED, f"{where}: write samvideo.{target}"
        if top == "torch":
            assert not within(name, TORCH_FREE) or name in WITH_TORCH, f"{where}: this part works without torch"
        if top != "samvideo" or target == "samvideo":
            continue
        other = covering(target, LAYERS)
        if other == own or (LAYERS[other] == LAYERS[own] and target.endswith(".base")):
            continue
        assert LAYERS[other] < LAYERS[own], f"{where}: from layer {LAYERS[own]} to {LAYERS[other]}; only downward"


def test_folders_form_no_circle() -> None:
    """Neither top folders (with all below them) nor single folders; a module at the root is a folder of its own."""
    for folder_of in (lambda name: ".".join(name.split(".")[:2]), lambda name: covering(name, FOLDERS) or name):
        graph = defaultdict(set)
        for name, targets in IMPORTS.items():
            one, others = folder_of(name), {folder_of(target) for target, _ in targets if target in MODULES}
            graph[one] |= {other for other in others if other != one and (one, other) not in CIRCLES}
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            pytest.fail(f"folders import each other: {' -> '.join(reversed(error.args[1]))}")


@pytest.mark.parametrize("library", sorted({t.split(".")[0] for ts in IMPORTS.values() for t, _ in ts}))
def test_libraries_stay_at_home(library: str) -> None:
    if library in COMMON or library == "samvideo" or library in sys.stdlib_module_names:
        return
    users = {name for name, targets in IMPORTS.items() if any(within(t, [library]) for t, _ in targets)}
    assert library in HOMES, f"{users} import {library}: name its home in HOMES"
    strangers = {name for name in users if not within(name, HOMES[library])}
    assert not strangers, f"{strangers} import {library}: only {HOMES[library]} may"


def test_no_table_has_stale_rows() -> None:
    imported = {(name, target.split(".")[0]) for name, targets in IMPORTS.items() for target, _ in targets}
    for library, homes in HOMES.items():
        for home in homes:
            users = [name for name, used in imported if used == library and within(name, [home])]
            assert users, f"HOMES: {home} does not import {library}"
    assert {library for _, library in imported} >= COMMON
    for one, other in CIRCLES:
        assert any(within(t, [other]) for name, ts in IMPORTS.items() if within(name, [one]) for t, _ in ts)
    for package in (*LAYERS, *TORCH_FREE, *WITH_TORCH):
        assert package in MODULES, f"{package} does not exist"


def test_files_and_functions_stay_small() -> None:
    for name, path in MODULES.items():
        text = path.read_text()
        limit = 150 if name.startswith("samvideo.cli.") and name != "samvideo.cli.main" else 400
        assert text.count("\n") <= limit, f"{path}: over {limit} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno:
                assert node.end_lineno - node.lineno < 50, f"{path}:{node.lineno} {node.name}: over 50 lines"
