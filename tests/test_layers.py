"""The architecture: a layer imports downward only, and each heavy library has its one home."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAPPED = {"memory": "samvideo.memory", "trackers": "samvideo.trackers", "evaluation": "samvideo.evaluation"}

# The longest matching prefix decides. Within one layer, packages may not see each other, save a shared base.py.
LAYERS = {
    "samvideo.types": 0,
    "samvideo.errors": 0,
    "samvideo.geometry": 0,
    "samvideo.io": 1,
    "samvideo.nn": 1,
    "samvideo.tensors": 1,
    "samvideo.prompts": 1,
    "samvideo.registry": 1,
    "samvideo.reporting": 1,
    "samvideo.weights": 1,
    "samvideo.encoders": 2,
    "samvideo.heads": 2,
    "samvideo.memory": 2,
    "samvideo.models": 3,
    "samvideo.checkpoints": 3,
    "samvideo.trackers.parts": 3,
    "samvideo.nano": 3,
    "samvideo.trackers": 4,
    "samvideo.evaluation": 5,
    "samvideo.training": 5,
    "samvideo.analysis": 5,
    "samvideo.render": 5,
    "samvideo.outputs": 5,
    "samvideo.demo": 5,
    "samvideo.exports": 5,
    "samvideo.redaction": 5,
    "samvideo.interrupt": 5,
    "samvideo.runner": 5,
    "samvideo.web": 5,
    "samvideo.cli": 6,
    "samvideo.__main__": 6,
    "samvideo": 7,
}
# Packages of one layer that never meet: they are joined one layer up.
STRANGERS = {"samvideo.encoders", "samvideo.heads", "samvideo.memory"}
# A heavy or optional library is known to these files only (three for av: one reads, two write).
HOMES = {
    "av": {"samvideo.io.alpha", "samvideo.io.sink", "samvideo.io.stream"},
    "decord": {"samvideo.io.random_access"},
    "pycocotools": {"samvideo.io.masks"},
    "rich": {"samvideo.cli"},
    "typer": {"samvideo.cli"},
    "platformdirs": {"samvideo.weights"},
    "filelock": {"samvideo.weights"},
    "threadpoolctl": {"samvideo.trackers.parts.classifier"},
    "timm": {"samvideo.encoders.repvit"},
    "hiera": {"samvideo.encoders.hiera"},
    "ray": {"samvideo.evaluation.shard"},
    "starlette": {"samvideo.web.app"},
    "uvicorn": {"samvideo.web.server"},
    "supervision": {"samvideo.exports.detections"},
    "matplotlib": {"samvideo.reporting.charts"},
    "jinja2": {"samvideo.reporting.pages"},
    "transformers": {"samvideo.evaluation.peer"},
}
TORCH_FREE = (
    "samvideo.analysis",
    "samvideo.exports",
    "samvideo.io",
    "samvideo.reporting",
    "samvideo.trackers.direction",
    "samvideo.trackers.flow",
    "samvideo.trackers.pursuit",
    "samvideo.trackers.parts",
    "samvideo.trackers.loop",
    "samvideo.web",
)


def modules() -> Iterator[tuple[str, Path]]:
    for folder in ("samvideo", *MAPPED):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts).removesuffix(".__init__")
            yield MAPPED.get(folder, folder) + name[len(folder) :], path


def imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield node.module or "", node.lineno


def covering(name: str, table: dict[str, int]) -> str:
    found = [key for key in table if name == key or name.startswith(key + ".")]
    assert found, f"{name} belongs to no layer: add it to the table"
    return max(found, key=len)


MODULES = list(modules())


@pytest.mark.parametrize(("name", "path"), MODULES, ids=[name for name, _ in MODULES])
def test_layers(name: str, path: Path) -> None:
    own = covering(name, LAYERS)
    for target, line in imports(path):
        where = f"{path.relative_to(ROOT)}:{line} imports {target}"
        top = target.split(".")[0]
        assert top not in MAPPED, f"{where}: write samvideo.{target}"
        if top in HOMES:
            allowed = HOMES[top]
            assert any(name == home or name.startswith(home + ".") for home in allowed), (
                f"{where}: only {allowed} may"
            )
        if top == "torch":
            assert not name.startswith(TORCH_FREE), f"{where}: this part works without torch"
        if top != "samvideo" or target == "samvideo" or name == "samvideo":
            continue
        other = covering(target, LAYERS)
        assert LAYERS[other] <= LAYERS[own], f"{where}: upward, from layer {LAYERS[own]} to {LAYERS[other]}"
        if own in STRANGERS and other in STRANGERS:
            assert own == other, f"{where}: these meet in samvideo.models only"


def test_files_and_functions_stay_small() -> None:
    for name, path in MODULES:
        text = path.read_text()
        limit = 150 if name.startswith("samvideo.cli.") and name != "samvideo.cli.main" else 400
        assert text.count("\n") <= limit, f"{path}: over {limit} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno:
                assert node.end_lineno - node.lineno < 50, f"{path}:{node.lineno} {node.name}: over 50 lines"
