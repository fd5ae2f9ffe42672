"""The wheel tracks on ONNX Runtime where PyTorch and all that needs it are not installed."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HIDDEN = "torch", "torchvision", "timm", "hiera", "einops", "safetensors", "onnx", "onnxscript", "transformers"
HIDE = f"""
import sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HIDDEN}:
            raise ImportError(f"{{name}} is not installed")

sys.meta_path.insert(0, NotInstalled())
"""


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Python in a new environment with the wheel, and the packages of this environment but those in `HIDDEN`."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path / "wheel", ROOT]
    subprocess.run(wheel, check=True)
    (built,) = (tmp_path / "wheel").glob("*.whl")
    venv.create(tmp_path / "venv", symlinks=True)
    found = tmp_path / "venv" / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([found, "-c", where], check=True, capture_output=True, text=True).stdout.strip())
    subprocess.run([*pip, "install", "--no-deps", "--target", site, built], check=True)
    (site / "hide_torch.py").write_text(HIDE)
    shared = [path for path in sys.path if path.endswith("site-packages")]
    (site / "shared.pth").write_text("\n".join(["import hide_torch", *shared]) + "\n")
    return found


@pytest.mark.long
def test_track(python: Path, exported: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> str:
        line = [str(python), *map(str, arguments)]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert Path(run("-c", "import samvideo; print(samvideo.__file__)").strip()).is_relative_to(tmp_path / "venv")
    run("-m", "samvideo", "demo-clip", "clip.mp4", "--frames", 6, "--width", 160, "--height", 96)
    options = ["--runtime", "onnx", "--weights", exported, "-o", "out", "--quiet"]
    run("-m", "samvideo", "track", "clip.mp4", "--prompt", "box=20,20,80,70", *options)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["frames"] == 6
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 6
