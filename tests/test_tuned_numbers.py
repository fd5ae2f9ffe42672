"""Every number that shapes the results of a tracker or a memory is a field of a config."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLAIN = {-1, 0, 0.5, 1, 2}
# Numbers that are not fields of a config, with the reason.
FIXED = {
    "memory/affinity.py": {
        "MASK_CELL": "shape of the bundled weights",
        "LOWEST": "below any weight that counts, changes no result",
        **dict.fromkeys(("3.0", "5.0"), "where training begins; learned"),
    },
    "memory/attention.py": {"QUERY_POSITION": "published weights are trained with it"},
    "memory/base.py": {"CODE_ROWS": "shape of published weights"},
    "memory/encoder.py": {"1e-06": "epsilon of the published layer norms"},
    "memory/method.py": {"WIDTH": "shape of published weights", "TOKEN_WIDTH": "shape of published weights"},
    "memory/pooled.py": {"CELL": "published weights are trained with it"},
    "memory/ridge.py": {"LABELS": "shape of the bundled weights", "6.0": "where training begins; learned"},
    "memory/target.py": {"MASK_SCALE": "of the masks that come", "MASK_STRIDE": "of the decoder's masks"},
    "trackers/direction.py": {"CHUNK": "bounds memory, changes no result"},
    "trackers/factory.py": {"PATIENCE": "wait for a server, changes no result"},
    "trackers/sam.py": {"BATCH": "bounds memory, changes no result", "CLEAR_RADIUS": "as published"},
    "trackers/loop.py": {"MARGIN": "decides whether a file's table is read, changes no result"},
}


def numbers(tree: ast.AST) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            yield node


def is_frozen(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef) and any("frozen=True" in ast.unparse(d) for d in node.decorator_list)


def loose_numbers(source: str) -> Iterator[tuple[str, int]]:
    """Names of numeric constants and values of floats that stand in the code, with their lines.

    Free are: fields of frozen dataclasses, VARIANTS (which are configs), and whole numbers inside of functions,
    which count axes, bits and pixels.
    """
    tree = ast.parse(source)
    seen = set()
    for node in ast.walk(tree):
        if is_frozen(node):
            seen.update(id(number) for number in numbers(node))
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
            target = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
            found = list(numbers(node.value))
            seen.update(map(id, found))
            if found and target != "VARIANTS":
                yield target, node.lineno
    for number in numbers(tree):
        if id(number) not in seen and isinstance(number.value, float) and number.value not in PLAIN:
            yield str(number.value), number.lineno


def test_tuned_numbers_are_config_fields() -> None:
    unused = {(file, number) for file, row in FIXED.items() for number in row}
    for path in [path for folder in ("trackers", "memory") for path in sorted((ROOT / folder).rglob("*.py"))]:
        file = path.relative_to(ROOT).as_posix()
        for number, line in loose_numbers(path.read_text()):
            assert number in FIXED.get(file, {}), f"{file}:{line}: make {number} a field of the config"
            unused.discard((file, number))
    assert not unused, "stale rows in FIXED"


def test_numbers_are_found() -> None:
    source = """
LIMIT = 7
VARIANTS = {"a": Config(0.3)}
@dataclass(frozen=True)
class Config:
    share: float = 0.25
@dataclass
class State:
    decay: float = 0.9
def weigh(x):
    return 0.5 * x[3] + 0.35 * x[4]
"""
    assert [number for number, _ in loose_numbers(source)] == ["LIMIT", "0.9", "0.35"]
