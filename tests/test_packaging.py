"""The mapped folders install whole, and `import samvideo` stays cheap."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import samvideo

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parent.parent


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_every_package_is_listed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    mapping = listed["package-dir"]
    found = set(listed["package-data"])  # a folder of data is a package, too
    for package, folder in mapping.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            inner = init.parent.relative_to(ROOT / folder).parts
            found.add(".".join((package, *inner)))
    assert found == set(listed["packages"])


def test_a_checkout_works_where_samvideo_is_installed_otherwise() -> None:
    """Without the finder of an editable install: Python, started in the root, takes the package from there."""
    code = "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'Editable' not in repr(f)]; "
    code += "import samvideo.trackers.base, samvideo.memory.base, samvideo.evaluation.metrics as m"
    code += "; print(m.__file__)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert Path(done.stdout.strip()) == ROOT / "evaluation" / "metrics.py"


def test_every_folder_with_modules_is_a_package() -> None:
    for folder in ("samvideo", "memory", "trackers", "evaluation"):
        for module in (ROOT / folder).rglob("*.py"):
            assert (module.parent / "__init__.py").exists(), f"{module.parent} lacks __init__.py"


def test_exported_names_exist() -> None:
    for name in samvideo.__all__:
        assert getattr(samvideo, name) is getattr(import_module(samvideo._HOME[name]), name)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = samvideo.nonsense  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "code", ["import samvideo", "import samvideo.cli.main", "from samvideo import track, open_video, Box"]
)
def test_torch_is_not_imported(code: str) -> None:
    assert run_python(f"{code}\nimport sys; print('torch' in sys.modules)") == "False"


def test_help_imports_neither_numpy_nor_opencv() -> None:
    code = "import samvideo.cli.main, sys; print([m for m in ('numpy', 'cv2', 'av', 'scipy') if m in sys.modules])"
    assert run_python(code) == "[]"
